//! Compiles the shim, and the CUDA plug-in that is embedded in the library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SHIM: &[&str] = &[
    "kernels/augment_host.cpp",
    "shim/accelerator.cpp",
    "shim/autocast.cpp",
    "shim/cpu_allocator.cpp",
    "shim/error.cpp",
    "shim/host_reads.cpp",
    "shim/layouts.cpp",
    "shim/list.cpp",
    "shim/norm_relu.cpp",
    "shim/optimizer.cpp",
    "shim/process.cpp",
    "shim/recompute.cpp",
    "shim/stream.cpp",
    "shim/tensor.cpp",
    "shim/upsample.cpp",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-changed=kernels");
    let lib = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys tells where libtorch lies"));
    let torch = lib.parent().expect("libtorch's lib folder has a parent").to_path_buf();
    // For the packages above (link_libtorch.rs), and for this package's own tests.
    println!("cargo::metadata=libtorch_lib={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());

    compiler(&torch).files(SHIM).compile("fullbore_shim");
    println!("cargo::rustc-link-lib=dylib=torch_cpu");
    println!("cargo::rustc-link-lib=dylib=c10");

    let plugin =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("libfullbore_cuda.so");
    if let Err(reason) = build_cuda_plugin(&torch, &lib, &plugin) {
        println!("cargo::warning=built without the CUDA plug-in: {reason}");
        fs::write(&plugin, b"").expect("OUT_DIR can be written");
    }
}

fn compiler(torch: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        // Loops over pixels are to be vectorised, and to give the same on every processor.
        .flag("-O3")
        .flag("-ffp-contract=off")
        .define("AT_PER_OPERATOR_HEADERS", None)
        // As libtorch itself is built: some classes have other members without it.
        .define("NDEBUG", None)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        // libtorch's headers are not ours to clean up: -isystem keeps their warnings quiet.
        .flag("-isystem")
        .flag(torch.join("include").to_str().expect("libtorch's path is UTF-8"))
        .flag("-isystem")
        .flag(torch.join("include/torch/csrc/api/include").to_str().expect("libtorch's path is UTF-8"));
    build
}

/// Links against the real CUDA libraries of the wheel; needs CUDA's headers, but neither a GPU nor a driver.
fn build_cuda_plugin(torch: &Path, lib: &Path, plugin: &Path) -> Result<(), String> {
    // scripts/libtorch names a folder of its own when the headers are not beside torch.
    println!("cargo::rerun-if-env-changed=FULLBORE_CUDA_INCLUDE");
    let cuda = torch.join("../nvidia/cu13");
    let include = env::var_os("FULLBORE_CUDA_INCLUDE").map_or_else(|| cuda.join("include"), PathBuf::from);
    for needed in
        [include.join("cuda_runtime_api.h"), include.join("crt/host_defines.h"), lib.join("libtorch_cuda.so")]
    {
        if !needed.exists() {
            return Err(format!("{} is missing", needed.display()));
        }
    }
    let mut build = compiler(torch);
    build
        .files(["shim/cuda_plugin.cpp", "shim/cuda_graph.cpp"])
        .pic(true)
        .flag("-isystem")
        .flag(cuda.join("include").to_str().ok_or("the path of the CUDA headers is not UTF-8")?);
    let objects = build.cargo_metadata(false).compile_intermediates();
    let status = Command::new(build.get_compiler().path())
        .arg("-shared")
        .arg("-o")
        .arg(plugin)
        .args(objects)
        .arg(format!("-L{}", lib.display()))
        .arg(format!("-L{}", cuda.join("lib").display()))
        .args([
            "-l:libcudart.so.13",
            "-Wl,--no-as-needed",
            "-ltorch_cuda",
            "-lc10_cuda",
            "-ltorch_cpu",
            "-lc10",
        ])
        // Their own dependencies (cuBLAS and so on) are on the machine with the GPU, not needed here.
        .args(["-Wl,--unresolved-symbols=ignore-in-shared-libs", "-Wl,-z,defs", "-s"])
        .status()
        .map_err(|e| format!("the linker did not start: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("the linker failed ({status})")) }
}
