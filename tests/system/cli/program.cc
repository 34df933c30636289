#include "tests/system/cli/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/support/place.h"

namespace ramet::testing {
namespace {

void redirect(const std::filesystem::path& file, int flags, int onto) {
  const int fd = ::open(file.c_str(), flags, 0600);
  if (fd < 0 || ::dup2(fd, onto) < 0) {
    ::_exit(99);
  }
  ::close(fd);
}

}  // namespace

Program::Program(const std::filesystem::path& directory, const std::vector<std::string>& words,
                 const std::string& input) {
  std::string folder = temp_root() + "/ramet-program-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    return;
  }
  folder_ = folder;
  std::ofstream(folder_ / "in") << input;
  std::vector<std::string> texts = {RAMET_CLI_PROGRAM};
  texts.insert(texts.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (std::string& text : texts) {
    argv.push_back(text.data());
  }
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::setenv("RAMET_TEMPLATES", directory.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    redirect(folder_ / "in", O_RDONLY, 0);
    redirect(folder_ / "out", O_WRONLY | O_CREAT, 1);
    redirect(folder_ / "err", O_WRONLY | O_CREAT, 2);
    ::execv(argv[0], argv.data());
    ::_exit(98);
  }
}

Program::~Program() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string Program::read_out(const char* name) const {
  std::stringstream text;
  text << std::ifstream(folder_ / name).rdbuf();
  return text.str();
}

bool Program::wait_for_output(const std::string& text, int seconds) {
  for (int i = 0; i < seconds * 50; ++i) {
    if ((read_out("out") + read_out("err")).find(text) != std::string::npos) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

void Program::signal(int number) {
  if (pid_ > 0) {
    ::kill(pid_, number);
  }
}

Ended Program::wait() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, 0) != pid_) {
    return {};
  }
  pid_ = -1;
  return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          .out = read_out("out"),
          .err = read_out("err")};
}

Ended run_ramet(const std::filesystem::path& directory, const std::vector<std::string>& words,
                const std::string& input) {
  return Program(directory, words, input).wait();
}

}  // namespace ramet::testing
