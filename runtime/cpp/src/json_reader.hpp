// Typed reading of JSON, whose errors are worded as msgspec words them, so that both languages say the same line.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgemtl::core {

using Json = nlohmann::ordered_json;  // in the order of the file, as Python reads it

/// A value that is not what it should be; the text has its path.
struct InvalidJson : std::runtime_error {
    InvalidJson(const std::string &what, const std::string &path)
        : std::runtime_error(path.empty() ? what : what + " - at `$" + path + "`") {}
};

class JsonValue {
  public:
    JsonValue(const Json &json, std::string path = "") : json(json), path(std::move(path)) {}

    std::string text() const;
    std::int64_t integer() const;
    double real() const;
    bool boolean() const;
    bool is_null() const { return json.is_null(); }
    bool is_object() const { return json.is_object(); }
    std::vector<JsonValue> array(const char *expected = "array") const;
    std::vector<double> reals() const;
    std::vector<std::string> texts() const;
    JsonValue member(const std::string &key) const { return {json.at(key), path + "." + key}; }
    /// Call `each` with every key and value of an object.
    void entries(const std::function<void(const std::string &, const JsonValue &)> &each) const;
    /// Throw InvalidJson for a value of another type than `expected`.
    [[noreturn]] void fail_type(const std::string &expected) const;
    /// Throw InvalidJson with a check's own words.
    [[noreturn]] void fail(const std::string &what) const { throw InvalidJson(what, path.empty() ? "" : path); }

  private:
    const Json &json;
    std::string path;
};

/// Reads an object into a struct: what each key is read by; others are unknown, and required ones must be there.
class ObjectReader {
  public:
    using Read = std::function<void(const JsonValue &)>;
    ObjectReader &required(const char *key, Read read);
    ObjectReader &optional(const char *key, Read read);
    void read(const JsonValue &value) const;

  private:
    std::map<std::string, Read> readers;
    std::vector<std::string> needed;
};

}  // namespace edgemtl::core
