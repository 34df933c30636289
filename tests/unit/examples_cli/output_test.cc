#include "examples/cli/output.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include <catch2/catch.hpp>

#include "examples/cli/console.h"

TEST_CASE("write_all writes all of a text into a pipe that is smaller, blocking or not") {
  for (const int flags : {0, O_NONBLOCK}) {
    int ends[2];
    REQUIRE(::pipe2(ends, flags) == 0);
    const std::string text(300'000, 'x');
    std::string got;
    std::thread reader([&] {
      char buffer[4096];
      while (got.size() < text.size()) {
        const ssize_t n = ::read(ends[0], buffer, sizeof buffer);
        if (n > 0) {
          got.append(buffer, static_cast<size_t>(n));
        } else {
          std::this_thread::yield();
        }
      }
    });
    CHECK(cli::write_all(ends[1], text));
    reader.join();
    CHECK(got == text);
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_CASE("write_all says when it cannot write") {
  const int fd = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(!cli::write_all(fd, "x"));
  CHECK(cli::write_all(fd, ""));
  ::close(fd);
  CHECK(!cli::write_all(-1, "x"));
}

TEST_CASE("closed standard descriptors become /dev/null, and a closed input is reported") {
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(0);
    ::close(2);
    const bool had_stdin = cli::open_standard_fds();
    const bool good = !had_stdin && ::fcntl(0, F_GETFD) == 0 && ::fcntl(2, F_GETFD) == 0;
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("environment_variable tells unset from empty") {
  CHECK(!cli::environment_variable("RAMET_SURELY_NOT_SET"));
  CHECK(cli::environment_variable("PATH"));
}
