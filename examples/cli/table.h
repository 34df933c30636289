// Table: columns of text, as wide as their widest cell.
//
// Thread rule: one thread.
// Invariant: no line ends in a space; every cell's control characters are shown as "?", so that
// text from a guest or a file cannot steer the terminal.
#ifndef RAMET_EXAMPLES_CLI_TABLE_H_
#define RAMET_EXAMPLES_CLI_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

enum class Align : uint8_t { kLeft, kRight };

class Table {
 public:
  // One column per heading; columns beyond `alignment` are left-aligned.
  explicit Table(std::vector<std::string> headings, std::vector<Align> alignment = {});
  // Missing cells are empty, surplus ones are dropped.
  void add(std::vector<std::string> row);
  // Every line behind `indent` spaces and ended by a newline. All-empty headings print no line.
  std::string text(size_t indent = 0) const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the headings first
  std::vector<Align> alignment_;
};

// `text` with every control character but those of `keep` as "?".
std::string printable(std::string_view text, std::string_view keep = "");

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_TABLE_H_
