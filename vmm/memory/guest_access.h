// GuestAccess: while one lives, ThreadSanitizer does not look at what its thread reads and writes.
//
// Thread rule: one thread; they nest.
// Invariant: only around copies out of and into guest memory: those race with the guest, and with
// each other where it names the same bytes to two devices, and no lock could help. Everywhere but
// in a build with ThreadSanitizer it is nothing.
#ifndef RAMET_VMM_MEMORY_GUEST_ACCESS_H_
#define RAMET_VMM_MEMORY_GUEST_ACCESS_H_

#if defined(__SANITIZE_THREAD__)
#define RAMET_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RAMET_TSAN 1
#endif
#endif

#if defined(RAMET_TSAN)
// Of the sanitizer's run-time (compiler-rt, lib/tsan/rtl/tsan_interface_ann.cpp).
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace ramet {

class [[maybe_unused]] GuestAccess {
 public:
#if defined(RAMET_TSAN)
  GuestAccess() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~GuestAccess() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  GuestAccess() = default;
#endif
  GuestAccess(const GuestAccess&) = delete;
  GuestAccess& operator=(const GuestAccess&) = delete;
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_GUEST_ACCESS_H_
