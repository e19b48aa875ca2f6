// Bounds on the tensors that an ONNX network computes, from the sizes in its constants and attributes.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wire.hpp"

namespace edgemtl::core {

/// An ONNX file holds something that is not allowed; the text names it.
struct UnsafeOnnx : std::runtime_error {
    using std::runtime_error::runtime_error;
};

using Numbers = std::vector<double>;
using NamedNumbers = std::pair<std::string, Numbers>;

class Sizes {
  public:
    void add_initializer(const Fields &tensor);
    void add_node(const Fields &node, const std::vector<NamedNumbers> &attributes);
    /// Throws UnsafeOnnx where an operator's input is a size beyond the bounds.
    void check() const;

  private:
    void add(const Fields &fields, std::uint64_t name_field, const Numbers &values);

    std::map<std::string, Numbers, std::less<>> constants;
    std::vector<std::pair<std::string, std::vector<std::string>>> readers;
};

/// The values of a TensorProto of int64 or float32 that is short enough to be a shape.
Numbers shape_numbers(const Fields &tensor);
/// An attribute's name, and its numbers where they may be a shape.
NamedNumbers attribute_numbers(const Fields &attribute);

}  // namespace edgemtl::core
