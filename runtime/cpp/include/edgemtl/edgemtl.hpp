// edgemtl in C++17: run a bundle that `edgemtl export` wrote, over the C functions of edgemtl.h.
//
//     edgemtl::Network network("street");
//     edgemtl::Result result = network.run({edgemtl::image("rgb", pixels, 480, 640, EDGEMTL_RGB8, stamp_ns)});
//     for (const edgemtl::Box &box : result.boxes("boxes")) std::cout << network.class_name("boxes", box) << box.score;
//
// What fails throws edgemtl::Error with the line that says what was found, where, and what to do; nothing is thrown
// across the library. Any thread may use a network; runs wait for one another.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgemtl/edgemtl.h"

namespace edgemtl {

class Error : public std::runtime_error {
  public:
    explicit Error(edgemtl_status status) : std::runtime_error(edgemtl_last_error()), status(status) {}
    edgemtl_status status;
};

inline void check(edgemtl_status status) {
    if (status != EDGEMTL_OK) throw Error(status);
}

using Box = edgemtl_box;
using Point = edgemtl_point;
using Image = edgemtl_image;

/// An image whose rows follow one another, without a copy of its pixels.
inline Image image(const char *camera, const void *data, int height, int width, edgemtl_pixels pixels,
                   std::int64_t stamp_ns = 0) {
    return {camera, data, height, width, 0, pixels, stamp_ns};
}

/// A part of a result by pointer and length; it lives as long as the result.
template <class T>
class Span {
  public:
    Span() = default;
    Span(const T *first, std::size_t count) : first(first), count(count) {}
    const T *begin() const { return first; }
    const T *end() const { return first + count; }
    const T *data() const { return first; }
    std::size_t size() const { return count; }
    bool empty() const { return count == 0; }
    const T &operator[](std::size_t index) const { return first[index]; }

  private:
    const T *first = nullptr;
    std::size_t count = 0;
};

/// A map of the camera's size, row by row: classes (uint8), or numbers (float) in one component or several.
template <class T>
struct Map {
    const T *data = nullptr;
    int height = 0, width = 0, components = 1;
    const T &at(int y, int x, int component = 0) const {
        return data[(static_cast<std::size_t>(y) * width + x) * components + component];
    }
};

/// The results of one run, in the pixels of `camera`.
class Result {
  public:
    explicit Result(edgemtl_result *result) : result(result, edgemtl_free_result) {}

    std::string camera() const { return edgemtl_result_camera(result.get()); }
    std::int64_t stamp_ns() const { return edgemtl_result_stamp_ns(result.get()); }
    std::int64_t skew_ns() const { return edgemtl_result_skew_ns(result.get()); }

    Span<Box> boxes(const std::string &head) const {
        const edgemtl_head_result one = of(head, EDGEMTL_BOXES);
        return {one.boxes, one.count};
    }
    Span<Point> points(const std::string &head) const {
        const edgemtl_head_result one = of(head, EDGEMTL_POINTS);
        return {one.points, one.count};
    }
    /// A class of the head for every pixel.
    Map<std::uint8_t> labels(const std::string &head) const { return map<std::uint8_t>(of(head, EDGEMTL_LABEL_MAP)); }
    /// Depths, normals, edges and other maps of numbers.
    Map<float> numbers(const std::string &head) const { return map<float>(raw(head)); }
    /// Attributes' scores, or scalars: one for every class.
    Span<float> values(const std::string &head) const {
        const edgemtl_head_result one = raw(head);
        if (one.element != EDGEMTL_FLOAT32 || one.dimensions != 1)
            throw std::invalid_argument("head " + head + " has no value for each class");
        return {static_cast<const float *>(one.values), static_cast<std::size_t>(one.shape[0])};
    }
    edgemtl_head_result raw(const std::string &head) const {
        edgemtl_head_result one;
        check(edgemtl_get_result(result.get(), head.c_str(), &one));
        return one;
    }

  private:
    edgemtl_head_result of(const std::string &head, edgemtl_kind kind) const {
        const edgemtl_head_result one = raw(head);
        if (one.kind != kind) throw std::invalid_argument("head " + head + " has results of another kind");
        return one;
    }
    template <class T>
    static Map<T> map(const edgemtl_head_result &one) {
        const bool is_uint8 = one.element == EDGEMTL_UINT8;
        if (one.dimensions < 2 || is_uint8 != (sizeof(T) == 1)) throw std::invalid_argument("the head has no such map");
        return {static_cast<const T *>(one.values), static_cast<int>(one.shape[0]), static_cast<int>(one.shape[1]),
                one.dimensions > 2 ? static_cast<int>(one.shape[2]) : 1};
    }

    std::unique_ptr<edgemtl_result, void (*)(edgemtl_result *)> result;
};

class Network {
  public:
    explicit Network(const std::string &folder, edgemtl_options options = edgemtl_default_options())
        : network(nullptr, edgemtl_close) {
        edgemtl_network *opened = nullptr;
        check(edgemtl_open(folder.c_str(), &options, &opened));
        network.reset(opened);
    }

    std::vector<edgemtl_input> inputs() const {
        std::vector<edgemtl_input> all(edgemtl_input_count(network.get()));
        for (std::size_t i = 0; i < all.size(); ++i) check(edgemtl_get_input(network.get(), i, &all[i]));
        return all;
    }
    std::vector<edgemtl_head> heads() const {
        std::vector<edgemtl_head> all(edgemtl_head_count(network.get()));
        for (std::size_t i = 0; i < all.size(); ++i) check(edgemtl_get_head(network.get(), i, &all[i]));
        return all;
    }
    std::string class_name(const std::string &head, const Box &box) const {
        for (const edgemtl_head &one : heads())
            if (head == one.name) return one.classes[box.class_index];
        throw std::invalid_argument("no head " + head);
    }
    void set_threshold(const std::string &head, float threshold, const char *class_name = nullptr) {
        check(edgemtl_set_threshold(network.get(), head.c_str(), class_name, threshold));
    }
    /// Run on images of one moment, one of each camera.
    Result run(const std::vector<Image> &images) {
        edgemtl_result *result = nullptr;
        check(edgemtl_run(network.get(), images.data(), images.size(), &result));
        return Result(result);
    }

  private:
    std::unique_ptr<edgemtl_network, void (*)(edgemtl_network *)> network;
};

}  // namespace edgemtl
