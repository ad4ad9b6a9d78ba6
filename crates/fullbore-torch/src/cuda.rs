//! CUDA at run time: libtorch_cuda and the plug-in are loaded when a driver is there, so that one program serves
//! machines with and without a GPU.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// The plug-in, compiled from shim/cuda_plugin.cpp; empty when CUDA's headers were missing at build time.
const PLUGIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libfullbore_cuda.so"));

/// Version of the plug-in's functions that this program calls.
const PLUGIN_ABI: c_int = 4;

/// What was found when CUDA was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CudaState {
    /// No driver on this machine (libcuda.so.1 does not load): the CPU it is.
    NoDriver,
    /// A driver is there, but libtorch's CUDA libraries do not load; the text names the missing one.
    LibrariesMissing(String),
    /// Loaded; usable devices, perhaps none.
    Ready(Vec<CudaDevice>),
}

/// A usable GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaDevice {
    /// Its number: `device: cuda:N`.
    pub index: usize,
    /// Its name, when the plug-in is built in.
    pub name: Option<String>,
    /// Compute capability times ten (90 for an H100), when the plug-in is built in.
    pub capability: Option<i32>,
}

/// Loads CUDA's libraries if there is a driver. Must run before libtorch is touched: it looks for them once.
pub(crate) fn load(library_folder: &Path) -> CudaState {
    if let Err(_no_driver) = open(c"libcuda.so.1") {
        return CudaState::NoDriver;
    }
    let library = library_folder.join("libtorch_cuda.so");
    let name = CString::new(library.to_string_lossy().as_bytes()).unwrap_or_default();
    if let Err(reason) = open(&name) {
        return CudaState::LibrariesMissing(reason);
    }
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    let plugin = PLUGIN_FUNCTIONS.get_or_init(Plugin::load);
    CudaState::Ready(
        (0..count)
            .map(|index| {
                let described = plugin.as_ref().and_then(|p| p.describe(index));
                CudaDevice {
                    index,
                    name: described.as_ref().map(|d| d.0.clone()),
                    capability: described.map(|d| d.1),
                }
            })
            .collect(),
    )
}

/// Opens a library for the whole process and for good.
fn open(name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: a NUL-terminated name. The library's constructors run; these are NVIDIA's and libtorch's own.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: dlerror returns a NUL-terminated text of this thread's last failure, or null.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return Err("dlopen failed without a reason".into());
    }
    // SAFETY: checked for null above; copied before the next dl call.
    Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// `int fbcuda_device_name(int device, char* name, size_t capacity, int* capability)`
type DeviceName = unsafe extern "C" fn(c_int, *mut c_char, usize, *mut c_int) -> c_int;

/// `int fbcuda_pin(void* start, size_t bytes)`
type Pin = unsafe extern "C" fn(*mut c_void, usize) -> c_int;

/// `int fbcuda_unpin(void* start)`
type Unpin = unsafe extern "C" fn(*mut c_void) -> c_int;

/// `const char* fbcuda_last_error()`
type LastError = unsafe extern "C" fn() -> *const c_char;

/// `int fbcuda_load_kernel(const char* ptx, const char* name, void** kernel)`
type LoadKernel = unsafe extern "C" fn(*const c_char, *const c_char, *mut *mut c_void) -> c_int;

/// `int fbcuda_launch(void* kernel, int device, const unsigned* grid, const unsigned* block, void** arguments)`
type Launch =
    unsafe extern "C" fn(*mut c_void, c_int, *const c_uint, *const c_uint, *mut *mut c_void) -> c_int;

/// `int fbcuda_graph_begin(int device, void* beside, void** graph)`
type GraphBegin = unsafe extern "C" fn(c_int, *mut c_void, *mut *mut c_void) -> c_int;

/// `int fbcuda_graph_end(void* graph)` and `int fbcuda_graph_replay(void* graph)`
type GraphCall = unsafe extern "C" fn(*mut c_void) -> c_int;

/// `void fbcuda_graph_free(void* graph)`
type GraphFree = unsafe extern "C" fn(*mut c_void);

#[derive(Debug)]
struct Plugin {
    device_name: DeviceName,
    pin: Pin,
    unpin: Unpin,
    last_error: LastError,
    load_kernel: LoadKernel,
    launch: Launch,
    graph_begin: GraphBegin,
    graph_end: GraphCall,
    graph_replay: GraphCall,
    graph_free: GraphFree,
}

/// Empty until CUDA has been looked for; `None` without a usable plug-in.
static PLUGIN_FUNCTIONS: OnceLock<Option<Plugin>> = OnceLock::new();

/// Page-locked host memory: the device copies from it directly. Dropping it unlocks the memory.
#[derive(Debug)]
pub struct PinnedHost {
    start: usize,
    unpin: Unpin,
}

impl PinnedHost {
    /// Page-locks the `bytes` bytes from `start` (`cudaHostRegister`), for all devices.
    ///
    /// # Errors
    /// Without the plug-in, and what the driver says.
    ///
    /// # Safety
    /// The memory must stay allocated until the value is dropped.
    pub unsafe fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, String> {
        let Some(Some(plugin)) = PLUGIN_FUNCTIONS.get() else {
            return Err("the program was built without its CUDA plug-in, or CUDA is not loaded".into());
        };
        // SAFETY: the signature of this version of the plug-in; the range is the caller's, and stays.
        match unsafe { (plugin.pin)(start.as_ptr().cast(), bytes) } {
            0 => Ok(Self { start: start.as_ptr() as usize, unpin: plugin.unpin }),
            _ => Err(format!("cudaHostRegister refused {bytes} bytes")),
        }
    }
}

impl Drop for PinnedHost {
    fn drop(&mut self) {
        // SAFETY: registered in `new` and not unregistered since. A failure leaves pages locked until the process
        // ends, which harms nothing.
        unsafe { (self.unpin)(self.start as *mut c_void) };
    }
}

/// A kernel that CUDA has loaded, for all devices and for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    /// A `cudaKernel_t`, which any thread may use.
    handle: usize,
}

impl Kernel {
    /// Compiles CUDA source with NVRTC for every GPU that libtorch serves, and loads the kernel `name`.
    ///
    /// # Errors
    /// What is missing, or what the compiler or the driver says.
    pub(crate) fn compile(source: &str, name: &CStr) -> Result<Self, String> {
        let Some(Some(plugin)) = PLUGIN_FUNCTIONS.get() else {
            return Err("the program was built without its CUDA plug-in, or CUDA is not loaded".into());
        };
        let ptx = CString::new(ptx(source)?).map_err(|_| "NVRTC made text with a zero in it".to_string())?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: two NUL-terminated texts and a valid out-parameter, for the signature of this version of the plug-in.
        match unsafe { (plugin.load_kernel)(ptx.as_ptr(), name.as_ptr(), &mut handle) } {
            0 => Ok(Self { handle: handle as usize }),
            _ => Err(format!("CUDA does not load the kernel: {}", plugin.last_error())),
        }
    }

    /// Starts the kernel on libtorch's current stream of a device.
    ///
    /// # Safety
    /// `arguments` are the addresses of values of the types that the kernel declares, and what these point to lies on the
    /// device and stays until the stream has passed.
    pub(crate) unsafe fn launch(
        &self,
        device: usize,
        grid: [u32; 3],
        block: [u32; 3],
        arguments: &mut [*mut c_void],
    ) -> Result<(), crate::Error> {
        let Some(Some(plugin)) = PLUGIN_FUNCTIONS.get() else {
            return Err(crate::Error::Device { message: "the CUDA plug-in is gone".into() });
        };
        let (handle, device) = (self.handle as *mut c_void, device as c_int);
        // SAFETY: a kernel of this plug-in, two arrays of three numbers, and arguments as the caller promises.
        let code =
            unsafe { (plugin.launch)(handle, device, grid.as_ptr(), block.as_ptr(), arguments.as_mut_ptr()) };
        match code {
            0 => Ok(()),
            _ => Err(crate::Error::Device { message: plugin.last_error() }),
        }
    }
}

/// A CUDA graph: under recording, then ready to be replayed.
#[derive(Debug)]
pub(crate) struct CudaGraph {
    graph: NonNull<c_void>,
    plugin: &'static Plugin,
}

impl CudaGraph {
    /// From now on what this thread asks of the device is recorded and not done, until [`CudaGraph::end`] or the value's
    /// end. Memory is shared with `beside`, a finished graph.
    pub(crate) fn begin(device: usize, beside: Option<&CudaGraph>) -> crate::Result<Self> {
        let Some(Some(plugin)) = PLUGIN_FUNCTIONS.get() else {
            return Err(crate::Error::Device { message: "the CUDA plug-in is not there".into() });
        };
        let beside = beside.map_or(std::ptr::null_mut(), |graph| graph.graph.as_ptr());
        let mut graph = std::ptr::null_mut();
        // SAFETY: a live graph or null, and a valid out-parameter.
        plugin.check(unsafe { (plugin.graph_begin)(device as c_int, beside, &mut graph) })?;
        let graph = NonNull::new(graph)
            .ok_or_else(|| crate::Error::Device { message: "no graph came back".into() })?;
        Ok(Self { graph, plugin })
    }

    /// Ends the recording. After an error the graph can only be dropped.
    pub(crate) fn end(&mut self) -> crate::Result<()> {
        // SAFETY: a live graph, and nobody else uses it now.
        self.plugin.check(unsafe { (self.plugin.graph_end)(self.graph.as_ptr()) })
    }

    /// Does what was recorded.
    ///
    /// # Safety
    /// All memory outside of the graph that the recorded work used is still there.
    pub(crate) unsafe fn replay(&self) -> crate::Result<()> {
        // SAFETY: a live graph; the rest is the caller's promise.
        self.plugin.check(unsafe { (self.plugin.graph_replay)(self.graph.as_ptr()) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: made by `begin`, and freed once.
        unsafe { (self.plugin.graph_free)(self.graph.as_ptr()) };
    }
}

/// Whether the plug-in is there: without it nothing can be recorded on CUDA.
pub(crate) fn has_plugin() -> bool {
    matches!(PLUGIN_FUNCTIONS.get(), Some(Some(_)))
}

/// PTX for the oldest GPUs that libtorch serves; drivers translate it for newer ones.
pub(crate) fn ptx(source: &str) -> Result<String, String> {
    // NVRTC comes with libtorch but lies outside the search path. It looks for the second library by its bare name.
    let folder = crate::library_folder().join("../../nvidia/cu13/lib");
    for name in ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"] {
        if let Ok(path) = CString::new(folder.join(name).to_string_lossy().as_bytes()) {
            // Where it is not there, another one may be in the search path.
            let _ = open(&path);
        }
    }
    // SAFETY: loads NVRTC, whose constructors are NVIDIA's own.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Err("NVRTC (libnvrtc.so) is not there".into());
    }
    let options = cudarc::nvrtc::CompileOptions {
        options: vec!["--gpu-architecture=compute_75".into()],
        ..Default::default()
    };
    match cudarc::nvrtc::compile_ptx_with_opts(source, options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(cudarc::nvrtc::CompileError::CompileError { log, .. }) => {
            Err(format!("NVRTC refuses the kernel: {}", log.to_string_lossy().trim()))
        }
        Err(error) => Err(format!("NVRTC does not work: {error:?}")),
    }
}

impl Plugin {
    /// The error behind the code of a function that works with graphs.
    fn check(&self, code: c_int) -> crate::Result<()> {
        match code {
            0 => Ok(()),
            crate::ffi::OUT_OF_MEMORY => Err(crate::Error::OutOfMemory { message: self.last_error() }),
            crate::ffi::DEVICE => Err(crate::Error::Device { message: self.last_error() }),
            _ => Err(crate::Error::Invalid { op: "graph".into(), message: self.last_error() }),
        }
    }

    /// What the last failed call of this thread said.
    fn last_error(&self) -> String {
        // SAFETY: the plug-in keeps the NUL-terminated text until this thread's next call, and it is copied at once.
        let text = unsafe { CStr::from_ptr((self.last_error)()) }.to_string_lossy();
        crate::error::without_backtrace(&text).to_string()
    }

    /// `None` when it was not built, does not load, or has another version.
    fn load() -> Option<Self> {
        if PLUGIN.is_empty() {
            return None;
        }
        // SAFETY: a NUL-terminated name; the returned descriptor is owned below.
        let fd = unsafe { libc::memfd_create(c"libfullbore_cuda.so".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return None;
        }
        // SAFETY: `fd` is a fresh, valid descriptor that nobody else closes.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.write_all(PLUGIN).ok()?;
        let handle = open(&CString::new(format!("/proc/self/fd/{fd}")).ok()?).ok()?;
        let version = symbol(handle, c"fbcuda_abi_version")?;
        // SAFETY: the plug-in declares `int fbcuda_abi_version()`.
        let version = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(version) };
        // SAFETY: no arguments, no preconditions.
        if unsafe { version() } != PLUGIN_ABI {
            return None;
        }
        let device_name = symbol(handle, c"fbcuda_device_name")?;
        let pin = symbol(handle, c"fbcuda_pin")?;
        let unpin = symbol(handle, c"fbcuda_unpin")?;
        let last_error = symbol(handle, c"fbcuda_last_error")?;
        let load_kernel = symbol(handle, c"fbcuda_load_kernel")?;
        let launch = symbol(handle, c"fbcuda_launch")?;
        let graph_begin = symbol(handle, c"fbcuda_graph_begin")?;
        let graph_end = symbol(handle, c"fbcuda_graph_end")?;
        let graph_replay = symbol(handle, c"fbcuda_graph_replay")?;
        let graph_free = symbol(handle, c"fbcuda_graph_free")?;
        // SAFETY: the signatures of this version of the plug-in, checked above.
        unsafe {
            Some(Self {
                device_name: std::mem::transmute::<*mut c_void, DeviceName>(device_name),
                pin: std::mem::transmute::<*mut c_void, Pin>(pin),
                unpin: std::mem::transmute::<*mut c_void, Unpin>(unpin),
                last_error: std::mem::transmute::<*mut c_void, LastError>(last_error),
                load_kernel: std::mem::transmute::<*mut c_void, LoadKernel>(load_kernel),
                launch: std::mem::transmute::<*mut c_void, Launch>(launch),
                graph_begin: std::mem::transmute::<*mut c_void, GraphBegin>(graph_begin),
                graph_end: std::mem::transmute::<*mut c_void, GraphCall>(graph_end),
                graph_replay: std::mem::transmute::<*mut c_void, GraphCall>(graph_replay),
                graph_free: std::mem::transmute::<*mut c_void, GraphFree>(graph_free),
            })
        }
    }

    fn describe(&self, index: usize) -> Option<(String, i32)> {
        let mut name = [0u8; 256];
        let mut capability = 0;
        // SAFETY: the buffer's true capacity and a valid out-parameter; the plug-in terminates the name.
        let code = unsafe {
            (self.device_name)(index as c_int, name.as_mut_ptr().cast(), name.len(), &mut capability)
        };
        let name = CStr::from_bytes_until_nul(&name).ok()?.to_string_lossy().into_owned();
        (code == 0).then_some((name, capability))
    }
}

fn symbol(handle: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a live library handle and a NUL-terminated name.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}
