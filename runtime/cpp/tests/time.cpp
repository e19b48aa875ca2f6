// Runs a bundle on images of one grey level: `edgemtl-time BUNDLE HEIGHT WIDTH COUNT` prints the median milliseconds
// and the peak memory in kB.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "edgemtl/edgemtl.hpp"

/// The most memory that this process has had at once; getrusage's is that of whoever started it, if that had more.
std::string peak_kb() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (word == "VmHWM:" && status >> word) return word;
    return "0";
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    try {
        edgemtl_options options = edgemtl_default_options();
        options.threads = 1;
        edgemtl::Network network(argv[1], options);
        const int height = std::atoi(argv[2]), width = std::atoi(argv[3]), count = std::atoi(argv[4]);
        const std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height) * width * 3, 90);
        std::vector<edgemtl::Image> images;
        const std::vector<edgemtl_input> inputs = network.inputs();
        for (const edgemtl_input &input : inputs)
            images.push_back(edgemtl::image(input.name, pixels.data(), height, width,
                                            input.channels == 3 ? EDGEMTL_RGB8 : EDGEMTL_GREY8));
        std::vector<double> times_ms;
        for (int i = 0; i < count; ++i) {
            const auto begun = std::chrono::steady_clock::now();
            network.run(images);
            times_ms.push_back(
                std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count());
        }
        std::nth_element(times_ms.begin(), times_ms.begin() + count / 2, times_ms.end());
        std::cout << times_ms[static_cast<std::size_t>(count / 2)] << " " << peak_kb() << "\n";
    } catch (const std::exception &error) {
        std::cerr << error.what() << "\n";
        return 2;
    }
}
