//! Build script of every package above fullbore-torch that links a program or a test: where libtorch lies at
//! run time. (A library crate cannot pass link arguments on to the programs that use it.)

fn main() {
    println!("cargo::rerun-if-changed=../fullbore-torch/link_libtorch.rs");
    let lib =
        std::env::var("DEP_FULLBORE_TORCH_LIBTORCH_LIB").expect("this package depends on fullbore-torch");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    // An installed copy finds libtorch beside it, so that a program and its libraries can be moved together.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../torch/lib");
}
