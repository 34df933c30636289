#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/settle.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "vmm/base/checked.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/status.h"
#include "vmm/base/syscall.h"
#include "vmm/base/thread.h"
#include "vmm/base/timed_mutex.h"
#include "vmm/base/unnamed_file.h"

using ramet::sys::Call;
using ramet::sys::FaultPlan;

TEST_CASE("errno_status says what was asked and what was found") {
  const ramet::Status status = ramet::errno_status(ENOSPC, "write memory.bin");
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(std::string(status.message()).find("write memory.bin") == 0);
  CHECK(std::string(status.message()).find("errno 28") != std::string::npos);
}

TEST_CASE("annotate puts its clause in front and keeps code and payload") {
  ramet::Status inner = absl::DataLossError("short");
  inner.SetPayload("ramet/test", absl::Cord("kept"));
  const ramet::Status outer = ramet::annotate(inner, "load template");
  CHECK(outer.code() == absl::StatusCode::kDataLoss);
  CHECK(outer.message() == "load template: short");
  CHECK(outer.GetPayload("ramet/test").has_value());
  CHECK(ramet::annotate(ramet::Status(), "clause").ok());
}

TEST_CASE("a fault plan fails exactly the n-th matching call") {
  FaultPlan plan(Call::kEventfd, 2, EMFILE);
  plan.arm();
  CHECK(ramet::sys::eventfd().ok());
  CHECK(ramet::sys::timerfd().ok());
  CHECK(ramet::sys::eventfd().status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(ramet::sys::eventfd().ok());
  CHECK(plan.seen() == 3);
  CHECK(plan.fired());
}

TEST_CASE("a sticky fault plan fails every call from the n-th on, and disarming ends it") {
  FaultPlan plan(Call::kAny, 1, EIO, true);
  plan.arm();
  CHECK(!ramet::sys::eventfd().ok());
  CHECK(!ramet::sys::timerfd().ok());
  plan.disarm();
  CHECK(ramet::sys::eventfd().ok());
}

TEST_CASE("pread_exactly reports the end of the file with both sizes") {
  const auto fd = ramet::sys::open("/tmp", O_TMPFILE | O_RDWR, 0600);
  REQUIRE(fd.ok());
  REQUIRE(ramet::sys::ftruncate(fd->get(), 10, "truncate").ok());
  std::array<std::byte, 16> buffer{};
  const ramet::Status status = ramet::sys::pread_exactly(fd->get(), buffer, 0, "read header");
  CHECK(status.code() == absl::StatusCode::kDataLoss);
  CHECK(std::string(status.message()).find("10 of 16") != std::string::npos);
}

TEST_CASE("checked arithmetic returns nothing where the result does not fit") {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  CHECK(!ramet::checked_add<uint64_t>(kMax, 1));
  CHECK(ramet::checked_add<uint64_t>(kMax, 0) == kMax);
  CHECK(!ramet::checked_mul<uint64_t>(kMax / 2, 3));
  CHECK(!ramet::checked_narrow<uint16_t>(0x10000u));
  CHECK(!ramet::checked_align_up<uint64_t>(kMax - 5, 4096));
  CHECK(ramet::checked_align_up<uint64_t>(4097, 4096) == 8192u);
}

TEST_CASE("a thread blocks every signal but the synchronous faults") {
  sigset_t mask;
  auto thread = ramet::Thread::start("mask", [&] { pthread_sigmask(SIG_SETMASK, nullptr, &mask); });
  REQUIRE(thread.ok());
  (*thread)->join();
  CHECK(sigismember(&mask, SIGTERM) == 1);
  CHECK(sigismember(&mask, SIGUSR1) == 1);
  CHECK(sigismember(&mask, SIGSEGV) == 0);
}

TEST_CASE("a thread has a stack of 256 KiB") {
#if defined(RAMET_SANITIZED)
  RAMET_SKIP("a sanitizer makes the stacks of threads larger");
#endif
  size_t bytes = 0;
  auto thread = ramet::Thread::start("stack", [&] {
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
      pthread_attr_getstacksize(&attributes, &bytes);
      pthread_attr_destroy(&attributes);
    }
  });
  REQUIRE(thread.ok());
  (*thread)->join();
  CHECK(bytes == 256 * 1024);
}

TEST_CASE("a thread that the host refuses is a Status") {
  FaultPlan plan(Call::kThreadCreate, 1, EAGAIN);
  plan.arm();
  const auto thread = ramet::Thread::start("never", [] {});
  CHECK(thread.status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a timed mutex is given up at the deadline, and had as soon as it is free") {
  ramet::TimedMutex mutex;
  const auto in = [](int milliseconds) {
    return std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  };
  mutex.lock();
  auto waiter = ramet::Thread::start("waiter", [&] {
    if (!mutex.try_lock_until(in(1)) && mutex.try_lock_until(in(30'000))) {
      mutex.unlock();
    }
  });
  REQUIRE(waiter.ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(mutex.try_lock_until(in(0)));
  mutex.unlock();
  (*waiter)->join();
  REQUIRE(mutex.try_lock_until(in(30'000)));
  mutex.unlock();
}

TEST_CASE("rate-limited logging lets a burst through and counts the rest") {
  int lines = 0;
  ramet::LogSink sink([&](ramet::LogLevel, std::string_view) { ++lines; });
  for (int i = 0; i < 1000; ++i) {
    sink.rate_limited_log(ramet::LogLevel::kWarning, "guest did something odd");
  }
  CHECK(lines < 100);
  CHECK(sink.suppressed() == static_cast<uint64_t>(1000 - lines));
}

TEST_CASE("a file without a name is made with and without O_TMPFILE, and leaves no entry") {
  const ramet::testing::TempDir folder;
  for (const int tmpfile_error : {0, EOPNOTSUPP, EISDIR}) {
    FaultPlan plan(Call::kOpen, 1, tmpfile_error);
    if (tmpfile_error != 0) {
      plan.arm();
    }
    const auto file = ramet::create_unnamed_file(folder.path(), 8192);
    plan.disarm();
    INFO("O_TMPFILE fails with errno " << tmpfile_error);
    REQUIRE(file.ok());
    CHECK(*ramet::sys::file_size(file->get(), "it") == 8192);
    CHECK(folder.entries() == 0);
  }
}

TEST_CASE(
    "a file without a name whose name cannot be removed at first is a Status and leaves none") {
  // A file system without O_TMPFILE, whose first unlink fails.
  class NoTmpfile final : public FaultPlan {
   public:
    NoTmpfile() : FaultPlan(Call::kUnlink, 1, EIO) {}
    std::optional<int> on_call(Call call) override {
      if (call == Call::kOpen && !std::exchange(opened_, true)) {
        return EOPNOTSUPP;
      }
      return FaultPlan::on_call(call);
    }

   private:
    bool opened_ = false;
  };
  const ramet::testing::TempDir folder;
  NoTmpfile plan;
  plan.arm();
  const auto file = ramet::create_unnamed_file(folder.path(), 8192);
  plan.disarm();
  CHECK(plan.fired());
  CHECK(!file.ok());
  CHECK(folder.entries() == 0);
}

TEST_CASE("a transfer that is cut short is gone on with, and only transfers count") {
  const ramet::testing::TempDir folder;
  FaultPlan plan(Call::kAny, 1, ramet::sys::kShortTransfer);
  plan.arm();
  const auto fd = ramet::sys::open(folder / "f", O_RDWR | O_CREAT, 0600);
  REQUIRE(fd.ok());
  CHECK(plan.seen() == 0);
  const std::array<std::byte, 5> out = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                                        std::byte{5}};
  REQUIRE(ramet::sys::pwrite_all(fd->get(), out, 0, "write").ok());
  CHECK(plan.fired());
  CHECK(plan.seen() == 2);
  std::array<std::byte, 5> in{};
  REQUIRE(ramet::sys::pread_exactly(fd->get(), in, 0, "read").ok());
  CHECK(in == out);
  FaultPlan next(Call::kPread, 1, ramet::sys::kShortTransfer);
  next.arm();
  in = {};
  REQUIRE(ramet::sys::pread_exactly(fd->get(), in, 0, "read").ok());
  CHECK(next.seen() == 2);
  CHECK(in == out);
}

TEST_CASE("a file without a name that cannot be made is a Status with its folder") {
  const ramet::testing::TempDir folder;
  const auto missing = ramet::create_unnamed_file(folder / "nothing", 1);
  CHECK(missing.status().code() == absl::StatusCode::kNotFound);
  CHECK(std::string(missing.status().message()).find(folder / "nothing") != std::string::npos);
  FaultPlan full(Call::kFtruncate, 1, EFBIG);
  full.arm();
  CHECK(ramet::create_unnamed_file(folder.path(), 1).status().code() ==
        absl::StatusCode::kResourceExhausted);
}

TEST_CASE("what a user can put right is no INTERNAL error") {
  CHECK(ramet::errno_status(EROFS, "x").code() == absl::StatusCode::kFailedPrecondition);
  CHECK(ramet::errno_status(ENOTDIR, "x").code() == absl::StatusCode::kFailedPrecondition);
  CHECK(ramet::errno_status(ELOOP, "x").code() == absl::StatusCode::kInvalidArgument);
  CHECK(ramet::errno_status(EEXIST, "x").code() == absl::StatusCode::kAlreadyExists);
}

TEST_CASE("room for descriptors is made at once, and no descriptor is left") {
  const auto table_size = [] {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
      if (word == "FDSize:") {
        size_t size = 0;
        status >> size;
        return size;
      }
    }
    return size_t{0};
  };
  rlimit files = {};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  const auto wanted = static_cast<uint32_t>(std::min<rlim_t>(2048, files.rlim_cur));
  const size_t open = ramet::testing::descriptor_count();
  ramet::sys::make_room_for_descriptors(STDERR_FILENO, wanted);
  CHECK(table_size() >= wanted);
  CHECK(ramet::testing::descriptor_count() == open);
}
