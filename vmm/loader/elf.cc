#include "vmm/loader/elf.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include <absl/strings/str_format.h>

#include "vmm/base/checked.h"
#include "vmm/loader/bytes.h"

namespace ramet {
namespace {

Status check_header(const Elf64_Ehdr& header) {
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the ELF file is of class %u, byte order %u, machine %u; a kernel for "
                        "x86-64 has %u, %u, %u",
                        header.e_ident[EI_CLASS], header.e_ident[EI_DATA], header.e_machine,
                        ELFCLASS64, ELFDATA2LSB, EM_X86_64));
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the ELF file is of type %u; a kernel has %u (executable) or %u (shared)",
                        header.e_type, ET_EXEC, ET_DYN));
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
      header.e_phnum > kMaxElfProgramHeaders) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the ELF file has %u program headers of %u bytes; 1 to %u of %u bytes can be loaded",
        header.e_phnum, header.e_phentsize, kMaxElfProgramHeaders, sizeof(Elf64_Phdr)));
  }
  return {};
}

StatusOr<ElfSegment> parse_segment(std::span<const std::byte> file, const Elf64_Phdr& header) {
  if (header.p_memsz < header.p_filesz) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the ELF segment at physical address 0x%x has %u bytes in the file but only %u in memory",
        header.p_paddr, header.p_filesz, header.p_memsz));
  }
  if (!checked_add<uint64_t>(header.p_paddr, header.p_memsz)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the ELF segment of %u bytes at physical address 0x%x ends past 2^64",
                        header.p_memsz, header.p_paddr));
  }
  if (header.p_offset > file.size() || header.p_filesz > file.size() - header.p_offset) {
    return absl::DataLossError(absl::StrFormat(
        "the ELF file is cut short: a segment has %u bytes from offset %u, the file has %u bytes",
        header.p_filesz, header.p_offset, file.size()));
  }
  return ElfSegment{header.p_paddr, header.p_memsz, file.subspan(header.p_offset, header.p_filesz)};
}

Status check_overlap(std::span<const ElfSegment> sorted) {
  for (size_t i = 1; i < sorted.size(); ++i) {
    const ElfSegment& before = sorted[i - 1];
    if (sorted[i].address - before.address < before.memory_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the ELF segments at physical addresses 0x%x (%u bytes) and 0x%x overlap",
                          before.address, before.memory_size, sorted[i].address));
    }
  }
  return {};
}

bool holds_entry(const Elf64_Phdr& header, uint64_t entry) {
  return (header.p_flags & PF_X) != 0 && entry >= header.p_paddr &&
         entry - header.p_paddr < header.p_filesz;
}

}  // namespace

bool looks_like_elf(std::span<const std::byte> file) {
  return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

StatusOr<ElfImage> parse_elf(std::span<const std::byte> file) {
  if (!looks_like_elf(file)) {
    return absl::InvalidArgumentError("no ELF magic");
  }
  const auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header) {
    return absl::DataLossError(
        absl::StrFormat("the ELF file is cut short: its header has %u bytes, the file %u",
                        sizeof(Elf64_Ehdr), file.size()));
  }
  RAMET_RETURN_IF_ERROR(check_header(*header));
  ElfImage image{header->e_entry, {}};
  bool entry_found = false;
  for (size_t i = 0; i < header->e_phnum; ++i) {
    const auto offset = checked_add<uint64_t>(header->e_phoff, i * sizeof(Elf64_Phdr));
    const auto program = offset ? read_at<Elf64_Phdr>(file, *offset) : std::nullopt;
    if (!program) {
      return absl::DataLossError(
          absl::StrFormat("the ELF file is cut short: program header %u of %u, from offset %u on, "
                          "lies outside its %u bytes",
                          i, header->e_phnum, header->e_phoff, file.size()));
    }
    if (program->p_type != PT_LOAD || program->p_memsz == 0) {
      continue;
    }
    RAMET_ASSIGN_OR_RETURN(const ElfSegment segment, parse_segment(file, *program));
    image.segments.push_back(segment);
    entry_found = entry_found || holds_entry(*program, image.entry);
  }
  std::ranges::sort(image.segments, {}, &ElfSegment::address);
  RAMET_RETURN_IF_ERROR(check_overlap(image.segments));
  if (!entry_found) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the ELF file's entry 0x%x lies in none of its executable segments", image.entry));
  }
  return image;
}

}  // namespace ramet
