// Texts from files made fit for one line, as Python's runtime writes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgemtl::core {

std::vector<std::uint32_t> code_points(std::string_view utf8);
bool is_printable(std::uint32_t code_point);
bool is_printable(std::string_view utf8);
/// A text as Python's ascii() quotes it, at most `most` of its characters.
std::string quoted(std::string_view utf8, std::size_t most);
/// The first characters of a text.
std::string first(std::string_view utf8, std::size_t most);
/// A text in one printable line of at most `most` characters, cut after a whole word.
std::string shortened(std::string_view utf8, std::size_t most = 300);
/// A number as Python's format "g" writes it.
std::string number(double value);
std::string joined(const std::vector<std::string> &parts, std::string_view between);

}  // namespace edgemtl::core
