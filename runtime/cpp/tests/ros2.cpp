// The example component against stand-ins of ROS 2: `edgemtl-ros2 BUNDLE`, a bundle of a colour and a thermal camera
// of which either may be missing. Prints what is wrong, and ends with 1 then.
#include <iostream>

#include "../examples/ros2/detector_component.cpp"

namespace {

int failures = 0;

void expect(bool holds, const char *what, int line) {
    if (!holds) std::cerr << "line " << line << ": " << what << "\n", ++failures;
}
#define EXPECT(holds) expect(holds, #holds, __LINE__)

using rclcpp::Bus;

/// Send an image of one grey level, whose rows are longer than their pixels.
void send(const std::string &topic, const std::string &encoding, std::int64_t stamp_ns, int bytes) {
    auto image = std::make_shared<sensor_msgs::msg::Image>();
    image->header.stamp.sec = static_cast<std::int32_t>(stamp_ns / 1'000'000'000);
    image->header.stamp.nanosec = static_cast<std::uint32_t>(stamp_ns % 1'000'000'000);
    image->header.frame_id = topic;
    image->height = 48, image->width = 64, image->encoding = encoding, image->step = 64 * bytes + 8;
    image->data.assign(std::size_t{image->step} * image->height, 200);
    Bus::subscribers.at(topic)(image);
}

template <class Message>
const Message &last(const std::string &topic) {
    return *std::static_pointer_cast<const Message>(Bus::published.at(topic).back());
}

std::size_t count() { return Bus::published["~/boxes"].size(); }

}  // namespace

int main(int, char **argv) {
    constexpr std::int64_t MS = 1'000'000;
    Bus::now_ns = 1000 * MS;
    edgemtl_ros2::Detector node(rclcpp::NodeOptions{{{"bundle", std::string(argv[1])}, {"threads", std::int64_t{1}}}});

    send("rgb/image", "bgr8", 5'000 * MS, 3);
    EXPECT(count() == 0);
    send("ir/image", "mono16", 5'040 * MS, 2);  // too late for that one
    EXPECT(count() == 0);
    send("rgb/image", "bgr8", 5'050 * MS, 3);
    EXPECT(count() == 1);

    const auto &boxes = last<vision_msgs::msg::Detection2DArray>("~/boxes");
    EXPECT(boxes.header.frame_id == "rgb/image" && boxes.header.stamp.nanosec == 50 * MS);
    EXPECT(!boxes.detections.empty() && boxes.detections[0].results[0].hypothesis.class_id == "person");
    EXPECT(boxes.detections[0].bbox.size_x > 0);
    const auto &classes = last<sensor_msgs::msg::Image>("~/semantic");
    EXPECT(classes.encoding == "mono8" && classes.height == 48 && classes.data[0] == 1);
    EXPECT(last<sensor_msgs::msg::Image>("~/depth").encoding == "32FC1");
    EXPECT(last<sensor_msgs::msg::Image>("~/normals").step == 64 * 3 * sizeof(float));

    Bus::now_ns += 400 * MS;
    send("rgb/image", "rgb8", 5'450 * MS, 3);
    EXPECT(count() == 1);  // the thermal camera may still come
    Bus::now_ns += 200 * MS;
    send("rgb/image", "rgb8", 5'650 * MS, 3);
    EXPECT(count() == 2);

    EXPECT(Bus::warnings.empty());
    send("rgb/image", "bayer_rggb8", 5'700 * MS, 1);
    EXPECT(count() == 2 && Bus::warnings.size() == 1 && Bus::warnings[0].find("bayer_rggb8") != std::string::npos);
    return failures ? 1 : 0;
}
