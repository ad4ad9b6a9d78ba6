/// Instruction sets that the CPU twin knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every x86-64 has.
    Portable,
    /// AVX2 and FMA: eight pixels at a time.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: sixteen pixels at a time.
    Avx512,
}

impl Isa {
    /// All of them, the plainest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The best one that this machine has.
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// True when this machine has it.
    pub fn is_available(self) -> bool {
        let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            Isa::Portable => true,
            Isa::Avx2 => avx2(),
            Isa::Avx512 => {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }
}

/// Defines a function that runs the `#[inline(always)]` function `$body` compiled for a chosen instruction set, so that its
/// loops become vectors of that set.
macro_rules! per_isa {
    ($(#[$doc:meta])* $vis:vis fn $name:ident = $body:ident $(<$t:ident: $bound:ident>)? ($($arg:ident: $ty:ty),* $(,)?)) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        $vis fn $name $(<$t: $bound>)? (isa: $crate::cpu::Isa, $($arg: $ty),*) {
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$t: $bound>)? ($($arg: $ty),*) {
                $body($($arg),*)
            }
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512 $(<$t: $bound>)? ($($arg: $ty),*) {
                $body($($arg),*)
            }
            match isa {
                $crate::cpu::Isa::Portable => $body($($arg),*),
                // SAFETY: an augmenter is only made with instruction sets that the machine has.
                $crate::cpu::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: the same.
                $crate::cpu::Isa::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(super) use per_isa;
