#include "json_reader.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace edgemtl::core {
namespace {

const char *type_of(const Json &json) {
    switch (json.type()) {
        case Json::value_t::null: return "null";
        case Json::value_t::boolean: return "bool";
        case Json::value_t::string: return "str";
        case Json::value_t::array: return "array";
        case Json::value_t::object: return "object";
        case Json::value_t::number_float: return "float";
        default: return "int";
    }
}

}  // namespace

void JsonValue::fail_type(const std::string &expected) const {
    throw InvalidJson("Expected `" + expected + "`, got `" + type_of(json) + "`", path);
}

std::string JsonValue::text() const {
    if (!json.is_string()) fail_type("str");
    return json.get<std::string>();
}

std::int64_t JsonValue::integer() const {
    if (!json.is_number_integer()) fail_type("int");
    if (json.is_number_unsigned()) {
        const auto value = json.get<std::uint64_t>();
        return value > static_cast<std::uint64_t>(INT64_MAX) ? INT64_MAX : static_cast<std::int64_t>(value);
    }
    return json.get<std::int64_t>();
}

double JsonValue::real() const {
    if (!json.is_number()) fail_type("float");
    return json.get<double>();
}

bool JsonValue::boolean() const {
    if (!json.is_boolean()) fail_type("bool");
    return json.get<bool>();
}

std::vector<JsonValue> JsonValue::array(const char *expected) const {
    if (!json.is_array()) fail_type(expected);
    std::vector<JsonValue> values;
    for (std::size_t i = 0; i < json.size(); ++i) values.emplace_back(json[i], path + "[" + std::to_string(i) + "]");
    return values;
}

std::vector<double> JsonValue::reals() const {
    std::vector<double> values;
    for (const JsonValue &value : array()) values.push_back(value.real());
    return values;
}

std::vector<std::string> JsonValue::texts() const {
    std::vector<std::string> values;
    for (const JsonValue &value : array()) values.push_back(value.text());
    return values;
}

void JsonValue::entries(const std::function<void(const std::string &, const JsonValue &)> &each) const {
    if (!json.is_object()) fail_type("object");
    for (const auto &[key, value] : json.items()) each(key, JsonValue(value, path + "[...]"));
}

ObjectReader &ObjectReader::optional(const char *key, Read read) {
    readers[key] = std::move(read);
    return *this;
}

ObjectReader &ObjectReader::required(const char *key, Read read) {
    needed.emplace_back(key);
    return optional(key, std::move(read));
}

void ObjectReader::read(const JsonValue &value) const {
    std::set<std::string> present;
    value.entries([&](const std::string &key, const JsonValue &) {
        const auto reader = readers.find(key);
        if (reader == readers.end()) value.fail("Object contains unknown field `" + key + "`");
        reader->second(value.member(key));
        present.insert(key);
    });
    for (const std::string &key : needed)
        if (present.count(key) == 0) value.fail("Object missing required field `" + key + "`");
}

}  // namespace edgemtl::core
