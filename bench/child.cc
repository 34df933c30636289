#include "bench/child.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include "vmm/base/unique_fd.h"

namespace ramet::bench {
namespace {

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

StatusOr<Pipe> make_pipe() {
  std::array<int, 2> ends = {};
  if (::pipe(ends.data()) != 0) {
    return errno_status(errno, "pipe");
  }
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

bool read_all(int fd, void* into, size_t bytes) {
  auto* at = static_cast<char*>(into);
  while (bytes != 0) {
    const ssize_t got = ::read(fd, at, bytes);
    if (got <= 0) {
      return false;
    }
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

bool write_all(int fd, const void* from, size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes != 0) {
    const ssize_t put = ::write(fd, at, bytes);
    if (put <= 0) {
      return false;
    }
    at += put;
    bytes -= static_cast<size_t>(put);
  }
  return true;
}

struct Child {
  pid_t pid = -1;
  Pipe go;       // a byte: begin; another: end
  Pipe figures;  // a byte: ready; then their number and they
};

[[noreturn]] void live(const Child& child, const Measure& measure) {
  char byte = 0;
  const auto begin = [&] {
    write_all(child.figures.write.get(), &byte, 1);
    read_all(child.go.read.get(), &byte, 1);
  };
  const StatusOr<Figures> figures = measure(begin);
  if (!figures.ok()) {
    std::fprintf(stderr, "bench, in a child: %s\n", figures.status().ToString().c_str());
    ::_exit(1);
  }
  const size_t count = figures->size();
  const bool written =
      write_all(child.figures.write.get(), &count, sizeof count) &&
      write_all(child.figures.write.get(), figures->data(), count * sizeof(double));
  read_all(child.go.read.get(), &byte, 1);
  ::_exit(written ? 0 : 1);
}

StatusOr<Figures> take(const Child& child) {
  size_t count = 0;
  Figures figures;
  if (read_all(child.figures.read.get(), &count, sizeof count)) {
    figures.resize(count);
    if (read_all(child.figures.read.get(), figures.data(), count * sizeof(double))) {
      return figures;
    }
  }
  return absl::InternalError("a child that measures has failed");
}

StatusOr<std::vector<Child>> start(int processes, const Measure& measure) {
  std::vector<Child> children(static_cast<size_t>(processes));
  std::fflush(nullptr);
  for (Child& child : children) {
    RAMET_ASSIGN_OR_RETURN(child.go, make_pipe());
    RAMET_ASSIGN_OR_RETURN(child.figures, make_pipe());
    child.pid = ::fork();
    if (child.pid == 0) {
      live(child, measure);
    }
    // The only one left is the child's, so that its death is the end of the pipe.
    child.figures.write.reset();
  }
  return children;
}

// What all the children give; the first that fails is the last that is asked.
Status converse(const std::vector<Child>& children, Turns turns, std::vector<Figures>* all) {
  char byte = 0;
  const auto all_do = [&](const auto& what) -> Status {
    for (const Child& child : children) {
      RAMET_RETURN_IF_ERROR(what(child));
    }
    return Status();
  };
  const auto let_go = [&](const Child& child) -> Status {
    write_all(child.go.write.get(), &byte, 1);
    return Status();
  };
  const auto take_figures = [&](const Child& child) -> Status {
    RAMET_ASSIGN_OR_RETURN(all->emplace_back(), take(child));
    return Status();
  };
  RAMET_RETURN_IF_ERROR(all_do([&](const Child& child) {
    return read_all(child.figures.read.get(), &byte, 1)
               ? Status()
               : absl::InternalError("a child that measures is not ready");
  }));
  if (turns == Turns::kAtOnce) {
    RAMET_RETURN_IF_ERROR(all_do(let_go));
    return all_do(take_figures);
  }
  return all_do([&](const Child& child) {
    let_go(child).IgnoreError();
    return take_figures(child);
  });
}

}  // namespace

StatusOr<std::vector<Figures>> in_children(int processes, Turns turns, const Measure& measure) {
  RAMET_ASSIGN_OR_RETURN(const auto children, start(processes, measure));
  std::vector<Figures> all;
  const Status status = converse(children, turns, &all);
  for (const Child& child : children) {
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
  }
  RAMET_RETURN_IF_ERROR(status);
  return all;
}

StatusOr<Figures> in_child(const Measure& measure) {
  RAMET_ASSIGN_OR_RETURN(auto all, in_children(1, Turns::kAtOnce, measure));
  return std::move(all[0]);
}

}  // namespace ramet::bench
