// libtorch's CPU allocator, replaced by one that keeps large blocks for reuse, counts, and obeys a budget.
//
// A training step allocates and frees the same activations every time. With plain malloc each of them is mapped,
// zeroed page by page on first touch, and unmapped again; kept blocks skip all of that. The counts and the budget
// give a CPU run the same memory readings and the same out-of-memory errors that a GPU run has.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "shim.h"

namespace {

constexpr size_t kHeader = 64;                // keeps the alignment that vector code wants
constexpr size_t kCachedFrom = 256 << 10;     // smaller blocks: malloc reuses those itself
constexpr size_t kHugePage = size_t{2} << 20;

struct Header {
  size_t bytes;  // of the whole block, header included
};

class CachingCpuAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t n) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (n == 0) return {nullptr, nullptr, &release, cpu};
    void* data = take(n);
    return {data, data, &release, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* destination, const void* source, std::size_t count) const override {
    default_copy_data(destination, source, count);
  }

  void read(fb_cpu_memory* out) {
    std::lock_guard lock(mutex_);
    *out = {in_use_, peak_, cached_, budget_};
  }

  void set_budget(uint64_t bytes) {
    std::lock_guard lock(mutex_);
    budget_ = bytes;
  }

  void reset_peak() {
    std::lock_guard lock(mutex_);
    peak_ = in_use_;
  }

  void release_cached() {
    std::lock_guard lock(mutex_);
    drop_cached();
  }

  static CachingCpuAllocator& instance() {
    // Leaked on purpose: tensors in static storage may outlive every destructor.
    static auto* allocator = new CachingCpuAllocator;
    return *allocator;
  }

 private:
  // Rounds up to one of eight sizes per power of two: at most an eighth is wasted, and sizes meet again.
  static size_t rounded(size_t bytes) {
    if (bytes < kCachedFrom) return (bytes + 63) & ~size_t{63};
    const size_t step = std::bit_floor(bytes) / 8;
    return (bytes + step - 1) / step * step;
  }

  void* take(size_t n) {
    TORCH_CHECK_WITH(OutOfMemoryError, n < SIZE_MAX / 2, "CPU out of memory: asked for ", n, " bytes");
    const size_t bytes = rounded(n + kHeader);
    std::lock_guard lock(mutex_);
    Header* block = nullptr;
    if (auto kept = kept_.find(bytes); kept != kept_.end() && !kept->second.empty()) {
      block = kept->second.back();
      kept->second.pop_back();
      cached_ -= bytes;
    } else {
      if (over_limit(bytes)) drop_cached();
      TORCH_CHECK_WITH(OutOfMemoryError, !budget_ || in_use_ + bytes <= budget_, "CPU out of memory: tried to allocate ", bytes,
                       " bytes, ", in_use_, " of the budget's ", budget_, " bytes are in use");
      block = fresh(bytes);
      if (!block) {
        drop_cached();
        block = fresh(bytes);
      }
      TORCH_CHECK_WITH(OutOfMemoryError, block, "CPU out of memory: the system refused ", bytes, " bytes, ", in_use_,
                       " bytes are in use");
    }
    block->bytes = bytes;
    in_use_ += bytes;
    if (in_use_ > peak_) peak_ = in_use_;
    return reinterpret_cast<char*>(block) + kHeader;
  }

  // What is kept stays below what the process has really needed at once, and within the budget.
  bool over_limit(size_t bytes) const {
    const uint64_t held = in_use_ + cached_ + bytes;
    return (budget_ && held > budget_) || held > 2 * std::max<uint64_t>(peak_, in_use_ + bytes);
  }

  static Header* fresh(size_t bytes) {
    void* memory = nullptr;
    const bool large = bytes >= kHugePage;
    if (posix_memalign(&memory, large ? kHugePage : kHeader, bytes) != 0) return nullptr;
    if (large) madvise(memory, bytes, MADV_HUGEPAGE);  // a hint: fewer page faults where the system allows it
    return static_cast<Header*>(memory);
  }

  static void release(void* data) {
    if (data) instance().give_back(reinterpret_cast<Header*>(static_cast<char*>(data) - kHeader));
  }

  void give_back(Header* block) {
    const size_t bytes = block->bytes;
    std::lock_guard lock(mutex_);
    in_use_ -= bytes;
    if (bytes < kCachedFrom) {
      std::free(block);
    } else {
      kept_[bytes].push_back(block);
      cached_ += bytes;
    }
  }

  void drop_cached() {
    for (auto& [bytes, blocks] : kept_) {
      for (Header* block : blocks) std::free(block);
    }
    kept_.clear();
    cached_ = 0;
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<Header*>> kept_;
  uint64_t in_use_ = 0, peak_ = 0, cached_ = 0, budget_ = 0;
};

}  // namespace

extern "C" void fb_cpu_allocator_install() {
  // Priority 1: over libtorch's own allocator (0).
  c10::SetCPUAllocator(&CachingCpuAllocator::instance(), 1);
}

extern "C" void fb_cpu_memory_read(fb_cpu_memory* out) { CachingCpuAllocator::instance().read(out); }

extern "C" void fb_cpu_memory_set_budget(uint64_t bytes) { CachingCpuAllocator::instance().set_budget(bytes); }

extern "C" void fb_cpu_memory_reset_peak() { CachingCpuAllocator::instance().reset_peak(); }

extern "C" void fb_cpu_memory_release_cached() { CachingCpuAllocator::instance().release_cached(); }
