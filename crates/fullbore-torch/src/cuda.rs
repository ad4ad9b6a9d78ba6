//! CUDA at run time: libtorch_cuda and the plug-in are loaded when a driver is there, so that one program serves
//! machines with and without a GPU.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// The plug-in, compiled from shim/cuda_plugin.cpp; empty when CUDA's headers were missing at build time.
const PLUGIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libfullbore_cuda.so"));

/// Version of the plug-in's functions that this program calls.
const PLUGIN_ABI: c_int = 2;

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

struct Plugin {
    device_name: DeviceName,
    pin: Pin,
    unpin: Unpin,
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

impl Plugin {
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
        // SAFETY: the signatures of this version of the plug-in, checked above.
        unsafe {
            Some(Self {
                device_name: std::mem::transmute::<*mut c_void, DeviceName>(device_name),
                pin: std::mem::transmute::<*mut c_void, Pin>(pin),
                unpin: std::mem::transmute::<*mut c_void, Unpin>(unpin),
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
