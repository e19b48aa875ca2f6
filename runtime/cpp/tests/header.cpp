// Everything that edgemtl.hpp offers, on a bundle with every head: `edgemtl-header-in-cpp BUNDLE` (tests/cpp).
#include <iostream>
#include <thread>

#include "edgemtl/edgemtl.hpp"

#define EXPECT(condition)                                            \
    if (!(condition)) {                                              \
        std::cerr << "line " << __LINE__ << ": " #condition << "\n"; \
        return 1;                                                    \
    }

namespace {

template <class Call>
edgemtl_status status_of(Call call) {
    try {
        call();
    } catch (const edgemtl::Error &error) {
        return error.status;
    }
    return EDGEMTL_OK;
}

}  // namespace

int main(int, char **argv) {
    edgemtl::Network network(argv[1]);
    EXPECT(network.inputs().size() == 2 && network.heads().size() == 12);
    const edgemtl::Head boxes = network.head("boxes");
    EXPECT(boxes.has_threshold && !network.head("depth").has_threshold);
    EXPECT(boxes.class_index("bicycle") == 1 && boxes.class_name(1) == "bicycle");
    EXPECT(status_of([&] { boxes.class_name(3); }) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(status_of([&] { boxes.class_index("Bicycle"); }) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(status_of([&] { network.head("nothing"); }) == EDGEMTL_ERROR_ARGUMENT);

    constexpr int HEIGHT = 48, WIDTH = 64;
    constexpr std::size_t ROW = WIDTH * 3 + 5;  // a vendor's buffer
    const std::vector<std::uint8_t> colour(ROW * HEIGHT, 200);
    const std::vector<std::uint16_t> counts(WIDTH * HEIGHT, 29'000);
    const std::vector<edgemtl::Image> both = {
        edgemtl::image("rgb", colour.data(), HEIGHT, WIDTH, EDGEMTL_BGR8, 1000, ROW),
        edgemtl::image("ir", counts.data(), HEIGHT, WIDTH, EDGEMTL_GREY16, 1040),
    };
    const edgemtl::Result result = network.run(both);
    EXPECT(result.camera() == "rgb" && result.height() == HEIGHT && result.width() == WIDTH);
    EXPECT(result.camera_stamp_ns() == 1000 && result.stamp_ns() == 1040 && result.skew_ns() == 40);
    EXPECT(!result.boxes("boxes").empty() && boxes.class_name(result.boxes("boxes")[0]) == "person");
    EXPECT(network.head("feet").class_name(result.points("feet")[0]) == "right");
    std::size_t bright = 0;
    for (const std::uint8_t label : result.labels("semantic")) bright += label == 1;
    EXPECT(bright == result.labels("semantic").size() && bright == WIDTH * HEIGHT);
    EXPECT(result.normals("normals").components == 3 && result.normals("normals").at(47, 63, 2) == 200.0f / 255);
    const edgemtl::Map<float> depth = result.depth("depth");
    EXPECT(&depth.nearest(1e9f, -3) == &depth.at(0, WIDTH - 1) && &depth.nearest(2.9f, 1.1f) == &depth.at(1, 2));
    EXPECT(result.edges("edges").size() == WIDTH * HEIGHT && result.thresholds("edges")[0] == 0.4f);
    EXPECT(result.numbers("flow").components == 2 && result.numbers("temperature").components == 1);
    EXPECT(result.values("speed").size() == 2 && result.thresholds("speed").empty());
    network.set_threshold("attributes", 0.0f);
    network.set_threshold("attributes", 1.0f, "wet");
    EXPECT(network.run(both).holding("attributes") == std::vector<int>{0});
    EXPECT(status_of([&] { result.depth("edges"); }) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(status_of([&] { result.numbers("embedding"); }) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(status_of([&] { network.run({}); }) == EDGEMTL_ERROR_ARGUMENT);

    std::vector<int> counted(2);
    std::vector<std::thread> threads;
    for (int &count : counted)
        threads.emplace_back([&] {
            for (int i = 0; i < 20; ++i) count += network.run({both[1]}).camera() == "ir";
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT(counted[0] == 20 && counted[1] == 20);
    return 0;
}
