// Runs one fuzz target over every file of its corpus, without libFuzzer: so the corpora are tests
// of every build. Prints one line; an empty corpus is a failure, and so is an input that takes
// longer than kInputSeconds. An input that ends the process is named before the process dies.
//
// usage: replay_NAME [FILE|FOLDER...]    the target's own corpus by default
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// The target's own set-up, where it has one.
extern "C" __attribute__((weak)) int LLVMFuzzerInitialize(int* argc, char*** argv);

namespace {

namespace fs = std::filesystem;

constexpr unsigned kInputSeconds = 60;

// What the handler names: only calls that are safe in a signal handler may run there.
std::array<char, 512> current_input{};

void on_death(int signal) {
  constexpr char kBefore[] = "replay: died on ";
  (void)!::write(STDERR_FILENO, kBefore, sizeof kBefore - 1);
  (void)!::write(STDERR_FILENO, current_input.data(), std::strlen(current_input.data()));
  (void)!::write(STDERR_FILENO, "\n", 1);
  std::signal(signal, SIG_DFL);
  ::raise(signal);
}

std::vector<fs::path> inputs_under(const std::vector<fs::path>& roots) {
  std::vector<fs::path> inputs;
  for (const fs::path& root : roots) {
    std::error_code error;
    if (fs::is_regular_file(root, error)) {
      inputs.push_back(root);
      continue;
    }
    for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
         it.increment(error)) {
      if (it->is_regular_file()) {
        inputs.push_back(it->path());
      }
    }
  }
  std::sort(inputs.begin(), inputs.end());
  return inputs;
}

bool replay(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "replay_%s: cannot read %s\n", RAMET_FUZZ_NAME, path.c_str());
    return false;
  }
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::snprintf(current_input.data(), current_input.size(), "%s", path.c_str());
  ::alarm(kInputSeconds);
  // A copy of exactly this size on the heap, so that a sanitizer sees the first byte beyond it.
  std::vector<uint8_t> exact(bytes.begin(), bytes.end());
  exact.shrink_to_fit();
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  ::alarm(0);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGALRM}) {
    std::signal(signal, on_death);
  }
  if (LLVMFuzzerInitialize != nullptr) {
    LLVMFuzzerInitialize(&argc, &argv);
  }
  std::vector<fs::path> roots(argv + 1, argv + argc);
  if (roots.empty()) {
    roots.emplace_back(RAMET_FUZZ_CORPUS);
  }
  const auto start = std::chrono::steady_clock::now();
  const std::vector<fs::path> inputs = inputs_under(roots);
  size_t unreadable = 0;
  for (const fs::path& input : inputs) {
    unreadable += replay(input) ? 0 : 1;
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  std::printf("replay_%s: %zu inputs, %zu unreadable, %.3f s\n", RAMET_FUZZ_NAME, inputs.size(),
              unreadable, std::chrono::duration<double>(elapsed).count());
  if (inputs.empty()) {
    std::fprintf(stderr, "replay_%s: the corpus %s is empty\n", RAMET_FUZZ_NAME, roots[0].c_str());
  }
  return inputs.empty() || unreadable > 0 ? 1 : 0;
}
