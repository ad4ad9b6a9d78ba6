// CUDA graphs: work that a stream records instead of doing it, replayed as a whole.
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>

#include "guard.h"

using c10::cuda::CUDAGuard;
using c10::cuda::CUDAStream;
using fullbore::guard;

namespace {

// The stream of all recordings on a device. Always the same one: the allocator gives a block of a pool only to the stream
// that it was made for, so graphs could not share memory otherwise. From the pool of high priority, which nobody else here
// draws from: another thread's work on it would be recorded too.
CUDAStream recording_stream(c10::DeviceIndex device) {
  static std::mutex mutex;
  static std::array<std::optional<CUDAStream>, C10_COMPILE_TIME_MAX_GPUS> streams;
  const std::lock_guard lock(mutex);
  auto& stream = streams.at(static_cast<size_t>(device));
  if (!stream) stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device);
  return *stream;
}

// A graph, and where its recording stands. While it is open, this thread's work on the device goes into it.
class Recording : public at::cuda::CUDAGraph {
 public:
  // With the raw graph kept, instantiating is a call of its own: a recording can be ended without it.
  explicit Recording(c10::DeviceIndex device)
      : at::cuda::CUDAGraph(/*keep_graph=*/true), device_(device), stream_before_(c10::cuda::getCurrentCUDAStream(device)) {}
  ~Recording() {
    if (open_) abandon();
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  c10::DeviceIndex device() const { return device_; }

  // `beside`: a finished recording whose memory this one uses too, or null.
  void begin(Recording* beside) {
    const CUDAGuard on_device(device_);
    c10::cuda::setCurrentCUDAStream(recording_stream(device_));
    open_ = true;
    // Other threads go on to copy and to page-lock memory, which a recording in global mode would not survive.
    capture_begin(beside ? beside->pool() : at::cuda::MempoolId_t{0, 0}, cudaStreamCaptureModeThreadLocal);
    begun_ = true;
  }

  // Waits until no replay is under way.
  void wait() const {
    // An open one has never been replayed, and a device with an open recording must not be waited for.
    if (!open_) C10_CUDA_CHECK(cudaDeviceSynchronize());
  }

  void end() {
    const CUDAGuard on_device(device_);
    capture_end();
    close();
    instantiate();
  }

 private:
  void close() {
    open_ = false;
    c10::cuda::setCurrentCUDAStream(stream_before_);
  }

  // Ends a recording that failed. libtorch itself leaves allocator and random generator in the state of recording when the
  // driver has given the recording up (an operation that cannot be recorded).
  void abandon() noexcept {
    try {
      const CUDAGuard on_device(device_);
      try {
        capture_end();
      } catch (...) {
        clean_up();
      }
      close();
    } catch (...) {
      // The device is gone; what comes next tells of it.
    }
  }

  void clean_up() {
    auto* host = at::getHostAllocator(at::kCUDA);
    // What throws here had been done, or had never begun.
    const auto tried = [](auto&& step) {
      try {
        step();
        return true;
      } catch (...) {
        return false;
      }
    };
    const bool device_left = tried([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(capture_dev_, mempool_id_); });
    const bool host_left = tried([&] { host->end_allocate_to_pool(mempool_id_); });
    // A recording that has come to its end gives the pool back itself.
    if (!capture_ended_) {
      if (begun_ || device_left) tried([&] { c10::cuda::CUDACachingAllocator::releasePool(capture_dev_, mempool_id_); });
      if (begun_ || host_left) tried([&] { host->release_pool(mempool_id_); });
    }
    for (auto& entry : captured_generator_states_) entry.first->capturing_ = false;
    (void)cudaGetLastError();  // told already
  }

  c10::DeviceIndex device_;
  CUDAStream stream_before_;
  bool open_ = false;
  bool begun_ = false;
};

}  // namespace

extern "C" {

// From now on what this thread asks of the device is recorded and not done, until fbcuda_graph_end or
// fbcuda_graph_free. `beside`: a finished graph to share memory with, or null.
int fbcuda_graph_begin(int device, void* beside, void** graph) {
  return guard([&] {
    auto recording = std::make_unique<Recording>(static_cast<c10::DeviceIndex>(device));
    recording->begin(static_cast<Recording*>(beside));
    *graph = recording.release();
  });
}

// Ends the recording and makes it ready. After a failure only fbcuda_graph_free is left.
int fbcuda_graph_end(void* graph) {
  return guard([&] { static_cast<Recording*>(graph)->end(); });
}

// Does what was recorded, on the device's current stream.
int fbcuda_graph_replay(void* graph) {
  return guard([&] {
    auto* recording = static_cast<Recording*>(graph);
    const CUDAGuard on_device(recording->device());
    recording->replay();
  });
}

// Frees the graph once no replay is under way; a recording that is still open ends unused.
void fbcuda_graph_free(void* graph) {
  const std::unique_ptr<Recording> recording(static_cast<Recording*>(graph));
  guard([&] {
    const CUDAGuard on_device(recording->device());
    recording->wait();
  });
}
}
