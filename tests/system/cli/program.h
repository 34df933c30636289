// The `ramet` program as a child process, and a folder of its own for its templates.
//
// Thread rule: one thread.
// Invariant: a child that is not waited for is killed when its Program is destroyed.
#ifndef RAMET_TESTS_SYSTEM_CLI_PROGRAM_H_
#define RAMET_TESTS_SYSTEM_CLI_PROGRAM_H_

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace ramet::testing {

struct Ended {
  int code = -1;  // exit code; -1: a signal ended it
  std::string out;
  std::string err;
};

class Program {
 public:
  // Starts `ramet` with these words, `input` as its standard input, and templates in `directory`.
  Program(const std::filesystem::path& directory, const std::vector<std::string>& words,
          const std::string& input = "");
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Waits until what it printed so far holds `text`; false after `seconds`.
  bool wait_for_output(const std::string& text, int seconds);
  void signal(int number);
  Ended wait();

 private:
  std::string read_out(const char* name) const;

  std::filesystem::path folder_;  // holds in, out and err
  pid_t pid_ = -1;
};

// Runs to the end.
Ended run_ramet(const std::filesystem::path& directory, const std::vector<std::string>& words,
                const std::string& input = "");

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SYSTEM_CLI_PROGRAM_H_
