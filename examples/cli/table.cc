#include "examples/cli/table.h"

#include <algorithm>
#include <utility>

namespace cli {
namespace {

constexpr size_t kGap = 2;

// Columns a UTF-8 text takes, if each code point takes one.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string padded(const std::string& cell, size_t width, Align align) {
  const std::string spaces(width - std::min(width, width_of(cell)), ' ');
  return align == Align::kLeft ? cell + spaces : spaces + cell;
}

}  // namespace

std::string printable(std::string_view text, std::string_view keep) {
  std::string out(text);
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 || byte == 0x7f) && keep.find(c) == std::string_view::npos) {
      c = '?';
    }
  }
  return out;
}

Table::Table(std::vector<std::string> headings, std::vector<Align> alignment)
    : alignment_(std::move(alignment)) {
  alignment_.resize(headings.size(), Align::kLeft);
  rows_.push_back(std::move(headings));
}

void Table::add(std::vector<std::string> row) {
  row.resize(rows_.front().size());
  for (std::string& cell : row) {
    cell = printable(cell);
  }
  rows_.push_back(std::move(row));
}

std::string Table::text(size_t indent) const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line(indent, ' ');
    for (size_t i = 0; i < row.size(); ++i) {
      line += (i == 0 ? "" : std::string(kGap, ' ')) + padded(row[i], widths[i], alignment_[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    if (&row != &rows_.front() || !line.empty()) {
      out += line + "\n";
    }
  }
  return out;
}

}  // namespace cli
