#include "text.hpp"

#include <array>
#include <cstdio>
#include <utility>

namespace edgemtl::core {

std::vector<std::uint32_t> code_points(std::string_view utf8) {
    std::vector<std::uint32_t> points;
    for (std::size_t i = 0; i < utf8.size();) {
        const auto lead = static_cast<unsigned char>(utf8[i]);
        const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        std::uint32_t point = length == 1 ? lead : lead & (0xFFu >> (length + 1));
        for (std::size_t k = 1; k < length && i + k < utf8.size(); ++k)
            point = point << 6 | (static_cast<unsigned char>(utf8[i + k]) & 0x3F);
        points.push_back(point);
        i += length;
    }
    return points;
}

bool is_printable(std::uint32_t point) {
    // Control, format, private and unassigned characters, and spaces but the plain one. Characters that newer versions
    // of Unicode have assigned count as printable.
    static constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 20> hidden{
        {{0x0, 0x1F},      {0x7F, 0xA0},     {0xAD, 0xAD},     {0x600, 0x605},     {0x61C, 0x61C},
         {0x6DD, 0x6DD},   {0x70F, 0x70F},   {0x1680, 0x1680}, {0x180E, 0x180E},   {0x2000, 0x200F},
         {0x2028, 0x202F}, {0x205F, 0x206F}, {0x3000, 0x3000}, {0xD800, 0xF8FF},   {0xFDD0, 0xFDEF},
         {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB}, {0xFFFE, 0xFFFF}, {0x1D173, 0x1D17A}, {0xE0000, 0xFFFFFFFF}}};
    for (const auto &[first, last] : hidden)
        if (point >= first && point <= last) return false;
    return true;
}

bool is_printable(std::string_view utf8) {
    for (const std::uint32_t point : code_points(utf8))
        if (!is_printable(point)) return false;
    return true;
}

std::string quoted(std::string_view utf8, std::size_t most) {
    const bool doubled = utf8.find('\'') != utf8.npos && utf8.find('"') == utf8.npos;
    std::string out(1, doubled ? '"' : '\'');
    const char quote = out[0];
    std::size_t count = 0;
    for (const std::uint32_t point : code_points(utf8)) {
        if (count++ == most) break;
        char buffer[16];
        if (point == '\\' || (point == static_cast<unsigned char>(quote)))
            std::snprintf(buffer, sizeof buffer, "\\%c", static_cast<int>(point));
        else if (point == '\n' || point == '\r' || point == '\t')
            std::snprintf(buffer, sizeof buffer, "\\%c", point == '\n' ? 'n' : point == '\r' ? 'r' : 't');
        else if (point >= 0x20 && point < 0x7F)
            std::snprintf(buffer, sizeof buffer, "%c", static_cast<int>(point));
        else
            std::snprintf(buffer, sizeof buffer,
                          point < 0x100     ? "\\x%02x"
                          : point < 0x10000 ? "\\u%04x"
                                            : "\\U%08x",
                          point);
        out += buffer;
    }
    return out + quote;
}

std::string first(std::string_view utf8, std::size_t most) {
    std::size_t end = 0;
    for (std::size_t count = 0; end < utf8.size(); ++end) {
        const bool begins = (static_cast<unsigned char>(utf8[end]) & 0xC0) != 0x80;
        if (begins && count++ == most) break;
    }
    return std::string(utf8.substr(0, end));
}

std::string shortened(std::string_view utf8, std::size_t most) {
    std::string line;
    for (const char letter : utf8) {
        const auto byte = static_cast<unsigned char>(letter);
        const bool is_space = byte == ' ' || (byte >= 9 && byte <= 13);
        if (!is_space)
            line += byte < 0x20 || byte == 0x7F ? '?' : letter;
        else if (!line.empty() && line.back() != ' ')
            line += ' ';
    }
    if (!line.empty() && line.back() == ' ') line.pop_back();
    if (code_points(line).size() <= most) return line;
    std::string cut = first(line, most - 1);
    const std::string half = first(line, most / 2);
    const std::size_t space = first(line, most).rfind(' ');
    if (space != std::string::npos && space >= half.size()) cut = cut.substr(0, cut.rfind(' '));
    cut.erase(cut.find_last_not_of(" ,;:") + 1);
    return cut + "\u2026";
}

std::string number(double value) {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%g", value);
    return buffer;
}

std::string joined(const std::vector<std::string> &parts, std::string_view between) {
    std::string out;
    for (const std::string &part : parts) {
        if (!out.empty()) out += between;
        out += part;
    }
    return out;
}

}  // namespace edgemtl::core
