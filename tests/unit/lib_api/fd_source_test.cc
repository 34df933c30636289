// Standard input from a descriptor: read as it comes, in the background, and given up at once.
#include "lib/api/fd_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/settle.h"
#include "vmm/base/fault_plan.h"

using namespace sandbox;
using ramet::IoResult;
using namespace ramet::testing;

namespace {

struct Pipe {
  Pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read_end = ramet::UniqueFd(ends[0]);
    write_end = ramet::UniqueFd(ends[1]);
  }
  // For threads, in which Catch2's assertions do not work.
  bool try_write(const std::string& text) const {
    return ::write(write_end.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }
  void write(const std::string& text) const { REQUIRE(try_write(text)); }
  ramet::UniqueFd read_end;
  ramet::UniqueFd write_end;
};

// Reads as the agent client does: until it would block, then until it is woken.
class Consumer {
 public:
  explicit Consumer(FdSource* source) : source_(source) {
    source_->attach([this] {
      const std::lock_guard lock(mutex_);
      woken_ = true;
      changed_.notify_all();
    });
  }
  ~Consumer() { source_->attach({}); }
  // The next result that is not "would block".
  absl::StatusOr<IoResult> next(size_t room = 1000) {
    for (int tries = 0; tries < 1000; ++tries) {
      std::string buffer(room, '\0');
      const auto got = source_->try_read(std::as_writable_bytes(std::span(buffer)));
      if (!got.ok() || got->state == IoResult::State::kEnd) {
        return got;
      }
      if (got->state == IoResult::State::kMoved) {
        text += buffer.substr(0, got->bytes);
        return got;
      }
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::seconds(20), [&] { return woken_; });
      woken_ = false;
    }
    return absl::InternalError("woken 1000 times for nothing");
  }
  absl::Status until_end() {
    while (true) {
      const auto got = next();
      if (!got.ok() || got->state == IoResult::State::kEnd) {
        return got.status();
      }
    }
  }
  std::string text;

 private:
  FdSource* const source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
};

// Makes each thread anew: what a source costs and leaves can be counted.
ramet::jail::Jail* shared_jail() {
  static const auto jail = ramet::jail::Jail::create(
      {.required = true, .facts = {.kick_signal = SIGRTMIN + 6}, .max_idle = 0});
  return jail->get();
}

std::unique_ptr<FdSource> make(int fd) {
  auto source = FdSource::create(shared_jail(), fd);
  REQUIRE(source.ok());
  return *std::move(source);
}

}  // namespace

TEST_CASE("what is written to a pipe arrives in order, then the end, again and again") {
  Pipe pipe;
  const auto source = make(pipe.read_end.get());
  Consumer consumer(source.get());
  bool whole = true;
  std::thread writer([&] {
    for (int i = 0; i < 100; ++i) {
      whole = pipe.try_write(std::string(1000, static_cast<char>('a' + i % 26))) && whole;
    }
    pipe.write_end.reset();
  });
  CHECK(consumer.until_end().ok());
  writer.join();
  CHECK(whole);
  REQUIRE(consumer.text.size() == 100'000);
  for (size_t i = 0; i < 100; ++i) {
    CHECK(consumer.text.substr(i * 1000, 1000) ==
          std::string(1000, static_cast<char>('a' + i % 26)));
  }
  CHECK(consumer.next()->state == IoResult::State::kEnd);
}

TEST_CASE("no more is read from the descriptor than one buffer ahead") {
  Pipe pipe;
  pipe.write(std::string(40'000, 'x'));
  {
    const auto source = make(pipe.read_end.get());
    Consumer consumer(source.get());
    REQUIRE(consumer.next(1).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::string rest(65'536, '\0');
  CHECK(::read(pipe.read_end.get(), rest.data(), rest.size()) ==
        static_cast<ssize_t>(40'000 - FdSource::kBufferBytes));
}

TEST_CASE("a source that waits for its descriptor is destroyed at once and leaves nothing") {
  Pipe pipe;
  const size_t files = descriptor_count();
  const size_t threads = thread_count();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    make(pipe.read_end.get()).reset();
    const auto waiting = make(pipe.read_end.get());
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
  CHECK(settled(descriptor_count, files) <= files);
  CHECK(settled(thread_count, threads) <= threads);
  CHECK(::fcntl(pipe.read_end.get(), F_GETFD) >= 0);
}

TEST_CASE("a full buffer that nobody reads does not hold the destruction up") {
  Pipe pipe;
  pipe.write(std::string(60'000, 'x'));
  const auto source = make(pipe.read_end.get());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

TEST_CASE("a source is destroyed although the call that would stop its wait fails") {
  Pipe pipe;
  auto source = make(pipe.read_end.get());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ramet::sys::FaultPlan plan(ramet::sys::Call::kWrite, 1, EIO);
  plan.arm();
  source.reset();
  plan.disarm();
  CHECK(plan.fired());
}

TEST_CASE("an empty file is an end, a bad descriptor and a folder are errors") {
  const ramet::UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto empty = make(null.get());
  CHECK(Consumer(empty.get()).next()->state == IoResult::State::kEnd);
  const auto closed = make(987'654);
  CHECK_FALSE(Consumer(closed.get()).next().ok());
  const ramet::UniqueFd folder(::open("/", O_RDONLY | O_CLOEXEC));
  const auto directory = make(folder.get());
  CHECK_FALSE(Consumer(directory.get()).next().ok());
}

TEST_CASE("a wait or a read that fails is an error of the source, not silence") {
  for (const auto call : {ramet::sys::Call::kPoll, ramet::sys::Call::kRead}) {
    Pipe pipe;
    pipe.write("text");
    ramet::sys::FaultPlan plan(call, 1, EIO);
    plan.arm();
    {
      const auto source = make(pipe.read_end.get());
      Consumer consumer(source.get());
      const auto got = consumer.next();
      CHECK(got.status().code() == absl::StatusCode::kInternal);
    }
    plan.disarm();
    CHECK(plan.fired());
  }
}

TEST_CASE("a source that cannot be made is a Status and leaves nothing") {
  shared_jail();
  const size_t files = descriptor_count();
  for (const auto call : {ramet::sys::Call::kEventfd, ramet::sys::Call::kThreadCreate}) {
    ramet::sys::FaultPlan plan(call, 1, EMFILE);
    plan.arm();
    CHECK(FdSource::create(shared_jail(), 0).status().code() ==
          absl::StatusCode::kResourceExhausted);
  }
  CHECK(settled(descriptor_count, files) <= files);
}
