#include "onnx_sizes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr double MAX_ELEMENTS = 1 << 28;  // of a tensor; of float32 it takes 1 GB
constexpr double MAX_SCALE = 1 << 16;     // by which an operator may repeat or upsample a tensor
constexpr double MAX_EXTENT = 4096;       // the largest kernel, stride, dilation and padding
constexpr std::size_t MAX_SHAPE_BYTES = 64;
constexpr std::uint64_t FLOAT = 1, INT64 = 7;

enum class Limit { elements, scales, extents };

bool allows(Limit limit, const Numbers &sizes) {
    if (limit == Limit::extents)
        return std::all_of(sizes.begin(), sizes.end(), [](double size) { return std::abs(size) <= MAX_EXTENT; });
    double product = 1;
    for (const double size : sizes) product *= std::max(1.0, std::abs(size));
    return product <= (limit == Limit::elements ? MAX_ELEMENTS : MAX_SCALE);
}

const std::map<std::string_view, std::vector<std::pair<std::size_t, Limit>>> INPUT_LIMITS{
    {"ConstantOfShape", {{0, Limit::elements}}},
    {"Expand", {{1, Limit::elements}}},
    {"OneHot", {{1, Limit::elements}}},
    {"Range", {{0, Limit::elements}, {1, Limit::elements}}},
    {"Tile", {{1, Limit::scales}}},
    {"Upsample", {{1, Limit::scales}}},
    {"Resize", {{2, Limit::scales}, {3, Limit::elements}}},
    {"Pad", {{1, Limit::extents}}},
    {"CenterCropPad", {{1, Limit::elements}}},
    {"Col2Im", {{1, Limit::elements}}},
};

const std::map<std::string_view, Limit> ATTRIBUTE_LIMITS{
    {"shape", Limit::elements},         {"output_shape", Limit::elements}, {"kernel_shape", Limit::extents},
    {"strides", Limit::extents},        {"dilations", Limit::extents},     {"pads", Limit::extents},
    {"output_padding", Limit::extents}, {"scales", Limit::scales},
};

bool is_short(const Field &field) { return field.wire == VARINT || field.bytes.size() <= MAX_SHAPE_BYTES; }

Numbers floats(std::string_view bytes) {
    Numbers values;
    for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
        float value = 0;
        std::memcpy(&value, bytes.data() + i, 4);
        values.push_back(std::isfinite(value) ? value : std::numeric_limits<double>::infinity());
    }
    return values;
}

UnsafeOnnx beyond_bounds(std::string_view op, const Numbers &values) {
    std::vector<std::string> texts;
    for (const double value : values) texts.push_back(number(value));
    const std::string name = quoted(op, 40), list = "[" + joined(texts, ", ") + "]";
    return UnsafeOnnx(name.substr(1, name.size() - 2) + " makes a tensor beyond bounds (" + list.substr(0, 60) + ")");
}

const std::vector<Field> &of(const Fields &fields, std::uint64_t number) {
    static const std::vector<Field> none;
    const auto found = fields.find(number);
    return found == fields.end() ? none : found->second;
}

}  // namespace

Numbers shape_numbers(const Fields &tensor) {
    const auto &types = of(tensor, 2), &raws = of(tensor, 9);
    const std::uint64_t type = types.empty() ? 0 : types.back().value;
    const std::string_view raw = raws.empty() ? std::string_view() : raws.back().bytes;
    Numbers values;
    if (type == INT64 && !raw.empty()) {
        for (std::size_t i = 0; raw.size() <= MAX_SHAPE_BYTES && i + 8 <= raw.size(); i += 8) {
            std::int64_t value = 0;
            std::memcpy(&value, raw.data() + i, 8);
            values.push_back(static_cast<double>(value));
        }
    } else if (type == INT64) {
        const auto &parts = of(tensor, 7);
        for (std::size_t i = 0; i < std::min(parts.size(), MAX_SHAPE_BYTES); ++i)
            for (const std::int64_t n : is_short(parts[i]) ? integers(parts[i]) : std::vector<std::int64_t>{0})
                values.push_back(static_cast<double>(n));
    } else if (type == FLOAT && !raw.empty()) {
        if (raw.size() <= MAX_SHAPE_BYTES) values = floats(raw);
    } else if (type == FLOAT) {
        const auto &parts = of(tensor, 4);
        for (std::size_t i = 0; i < std::min(parts.size(), MAX_SHAPE_BYTES); ++i)
            if (is_short(parts[i]))
                for (const double value : floats(parts[i].bytes)) values.push_back(value);
    }
    return values;
}

NamedNumbers attribute_numbers(const Fields &attribute) {
    const auto &names = of(attribute, 1), &tensors = of(attribute, 5);
    NamedNumbers named{names.empty() ? std::string() : std::string(text_of(names[0])), Numbers()};
    if (!tensors.empty() && tensors[0].wire != VARINT) {
        named.second = shape_numbers(fields_of(tensors[0].bytes));
        return named;
    }
    std::size_t count = 0;
    for (const std::uint64_t number : {3, 8})
        for (const Field &part : of(attribute, number))
            if (count++ < MAX_SHAPE_BYTES && is_short(part))
                for (const std::int64_t n : integers(part)) named.second.push_back(static_cast<double>(n));
    return named;
}

void Sizes::add(const Fields &fields, std::uint64_t name_field, const Numbers &values) {
    for (const Field &field : of(fields, name_field)) {
        const std::string name(text_of(field));
        if (!constants.emplace(name, values).second) {
            const std::string shown = quoted(name, 60);
            throw UnsafeOnnx("has two constants of the name '" + shown.substr(1, shown.size() - 2) + "'");
        }
    }
}

void Sizes::add_initializer(const Fields &tensor) { add(tensor, 8, shape_numbers(tensor)); }

void Sizes::add_node(const Fields &node, const std::vector<NamedNumbers> &attributes) {
    const auto &types = of(node, 4);
    const std::string op(types.empty() ? std::string_view() : text_of(types[0]));
    for (const auto &[name, values] : attributes) {
        const auto limit = ATTRIBUTE_LIMITS.find(name);
        if (limit != ATTRIBUTE_LIMITS.end() && !allows(limit->second, values)) throw beyond_bounds(op, values);
        if (op == "Constant") add(node, 2, values);
    }
    if (INPUT_LIMITS.count(op) == 0) return;
    std::vector<std::string> inputs;
    for (const Field &name : of(node, 1)) inputs.emplace_back(text_of(name));
    readers.emplace_back(op, std::move(inputs));
}

void Sizes::check() const {
    for (const auto &[op, inputs] : readers)
        for (const auto &[index, limit] : INPUT_LIMITS.at(op)) {
            if (index >= inputs.size()) continue;
            const auto values = constants.find(inputs[index]);
            if (values != constants.end() && !allows(limit, values->second)) throw beyond_bounds(op, values->second);
        }
}

}  // namespace edgemtl::core
