#include "guard.h"
#include "shim.h"

namespace fullbore {

std::string& last_error() {
  thread_local std::string message;
  return message;
}

bool says_out_of_memory(const std::string& message) {
  for (const char* sign : {"out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED", "bad_alloc"}) {
    if (message.find(sign) != std::string::npos) return true;
  }
  return false;
}

}  // namespace fullbore

extern "C" const char* fb_last_error() { return fullbore::last_error().c_str(); }

extern "C" void fb_set_last_error(const char* text) { fullbore::last_error() = text; }

extern "C" int fb_says_out_of_memory(const char* text) { return fullbore::says_out_of_memory(text) ? 1 : 0; }
