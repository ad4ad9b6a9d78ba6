// The one error crossing: every shim function runs its body in guard(), which turns any C++ exception into a
// code and a thread-local message. No exception reaches Rust, no Rust panic reaches C++.
#pragma once

#include <c10/util/Exception.h>

#include <new>
#include <stdexcept>
#include <string>

namespace fullbore {

enum Code : int {
  kOk = 0,
  kOutOfMemory = 1,  // of the device or of the host
  kInvalid = 2,      // libtorch refused the arguments
  kDevice = 3,       // the accelerator or its driver failed
};

std::string& last_error();  // of this thread; read through fb_last_error

// Host allocators report out-of-memory as a plain c10::Error; only their wording tells it from other errors.
bool says_out_of_memory(const std::string& message);

// An error of Rust code that C++ had called, on its way back to Rust.
class Failed : public std::runtime_error {
 public:
  Failed(int code, const std::string& message) : std::runtime_error(message), code(code) {}
  int code;
};

template <class Body>
int guard(Body&& body) noexcept {
  try {
    body();
    return kOk;
  } catch (const Failed& e) {
    last_error() = e.what();
    return e.code;
  } catch (const c10::OutOfMemoryError& e) {
    last_error() = e.what_without_backtrace();
    return kOutOfMemory;
  } catch (const c10::AcceleratorError& e) {
    last_error() = e.what_without_backtrace();
    return e.get_error_code() == 2 /* cudaErrorMemoryAllocation */ ? kOutOfMemory : kDevice;
  } catch (const c10::Error& e) {
    last_error() = e.what_without_backtrace();
    return says_out_of_memory(last_error()) ? kOutOfMemory : kInvalid;
  } catch (const std::bad_alloc&) {
    last_error() = "the C++ runtime could not allocate host memory";
    return kOutOfMemory;
  } catch (const std::exception& e) {
    last_error() = e.what();
    return says_out_of_memory(last_error()) ? kOutOfMemory : kInvalid;
  } catch (...) {
    last_error() = "an exception of unknown type";
    return kInvalid;
  }
}

}  // namespace fullbore
