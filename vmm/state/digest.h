// Digest: XXH3-64, the checksum of every file of a template. Against damage, not against forgery.
//
// Thread rule: one thread per object.
#ifndef RAMET_VMM_STATE_DIGEST_H_
#define RAMET_VMM_STATE_DIGEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace ramet {

class Digest {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void update(std::span<const std::byte> bytes);
  uint64_t value() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

// The digest of these bytes.
uint64_t digest(std::span<const std::byte> bytes);

}  // namespace ramet

#endif  // RAMET_VMM_STATE_DIGEST_H_
