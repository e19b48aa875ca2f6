// Two images to JSON: `edgemtl-images BUNDLE CAMERA=IMAGE...` prints the results of one moment.
//
// Images are PPM (colour) and PGM (one channel of 8 or 16 bits), which every tool writes and which need no library:
// `convert picture.png picture.ppm`. `two_cameras.cpp` reads cameras with OpenCV.
#include <cstdint>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "edgemtl/edgemtl.hpp"

namespace {

struct Picture {
    std::string camera;
    int height = 0, width = 0;
    edgemtl_pixels pixels = EDGEMTL_RGB8;
    std::vector<std::uint8_t> data;
};

Picture read_netpbm(const std::string &camera, const std::string &file) {
    std::ifstream stream(file, std::ios::binary);
    std::string kind;
    int width = 0, height = 0, most = 0;
    if (!(stream >> kind >> width >> height >> most) || (kind != "P5" && kind != "P6") || width < 1 || height < 1 ||
        most < 1 || most > 65535 || width > 16384 || height > 16384)
        throw std::runtime_error(file + ": is no PPM or PGM image");
    stream.get();
    Picture picture{camera,
                    height,
                    width,
                    kind == "P6" ? EDGEMTL_RGB8
                    : most > 255 ? EDGEMTL_GREY16
                                 : EDGEMTL_GREY8,
                    {}};
    picture.data.resize(static_cast<std::size_t>(width) * height * (kind == "P6" ? 3 : most > 255 ? 2 : 1));
    stream.read(reinterpret_cast<char *>(picture.data.data()), static_cast<std::streamsize>(picture.data.size()));
    if (stream.gcount() != static_cast<std::streamsize>(picture.data.size()))
        throw std::runtime_error(file + ": is cut short");
    if (picture.pixels == EDGEMTL_GREY16)  // big-endian in the file
        for (std::size_t i = 0; i < picture.data.size(); i += 2) std::swap(picture.data[i], picture.data[i + 1]);
    return picture;
}

nlohmann::json described(const edgemtl_head &head, const edgemtl_head_result &result) {
    nlohmann::json out = nlohmann::json::object();
    if (result.kind == EDGEMTL_BOXES) {
        out["boxes"] = nlohmann::json::array();
        for (std::size_t i = 0; i < result.count; ++i) {
            const edgemtl_box &box = result.boxes[i];
            out["boxes"].push_back({{"xyxy", {box.x1, box.y1, box.x2, box.y2}},
                                    {"score", box.score},
                                    {"class", head.classes[box.class_index]}});
        }
    } else if (result.kind == EDGEMTL_ATTRIBUTES) {
        for (std::size_t i = 0; i < head.class_count; ++i)
            out[head.classes[i]] = static_cast<const float *>(result.values)[i];
    } else if (result.kind == EDGEMTL_LABEL_MAP) {
        std::vector<std::size_t> counts(head.class_count);
        const std::size_t total = static_cast<std::size_t>(result.shape[0] * result.shape[1]);
        for (std::size_t i = 0; i < total; ++i) ++counts[static_cast<const std::uint8_t *>(result.values)[i]];
        for (std::size_t i = 0; i < head.class_count; ++i)
            out[head.classes[i]] = static_cast<double>(counts[i]) / static_cast<double>(total);
    } else {
        out["shape"] = std::vector<std::int64_t>(result.shape, result.shape + result.dimensions);
    }
    return out;
}

}  // namespace

int main(int argc, char **argv) {
    if (argc < 3) {
        std::cerr << "usage: edgemtl-images BUNDLE CAMERA=IMAGE...\n";
        return 2;
    }
    try {
        edgemtl::Network network(argv[1]);
        std::vector<Picture> pictures;
        for (int i = 2; i < argc; ++i) {
            const std::string word = argv[i];
            const std::size_t equals = word.find('=');
            if (equals == word.npos) throw std::runtime_error(word + ": give CAMERA=IMAGE");
            pictures.push_back(read_netpbm(word.substr(0, equals), word.substr(equals + 1)));
        }
        std::vector<edgemtl::Image> images;
        for (const Picture &picture : pictures)
            images.push_back(edgemtl::image(picture.camera.c_str(), picture.data.data(), picture.height, picture.width,
                                            picture.pixels));
        const edgemtl::Result result = network.run(images);
        nlohmann::json out = {{"camera", result.camera()}, {"heads", nlohmann::json::object()}};
        for (const edgemtl_head &head : network.heads())
            out["heads"][head.name] = described(head, result.raw(head.name));
        std::cout << out.dump(1) << "\n";
    } catch (const std::exception &error) {
        std::cerr << "edgemtl-images: " << error.what() << "\n";
        return 2;
    }
}
