// SHA-256 (FIPS 180-4).
#pragma once

#include <string>
#include <string_view>

namespace edgemtl::core {

/// The hash of bytes as hexadecimal digits.
std::string sha256(std::string_view bytes);

}  // namespace edgemtl::core
