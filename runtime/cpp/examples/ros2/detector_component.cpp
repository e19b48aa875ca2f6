// A rclcpp component: images of a bundle's cameras in, paired by approximate time; results of every head out.
//
// It subscribes to `NAME/image` for every input of the bundle (`rgb/image`, `ir/image`; remap them) and publishes
// `~/HEAD`: boxes as vision_msgs/Detection2DArray, maps as sensor_msgs/Image (classes mono8, numbers 32FC1 or 32FC3),
// with the header of the camera in whose pixels they are. Images must be registered to each other already.
//
// Parameters: `bundle` (a folder), `precision`, `provider`, `threads`; `slop_s`, the largest difference of the stamps
// of two images that are run together; `alone_after_s`, from when on one camera is run without the other, where the
// network was trained for that.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <rclcpp/rclcpp.hpp>
#include <rclcpp_components/register_node_macro.hpp>
#include <sensor_msgs/msg/image.hpp>
#include <string>
#include <utility>
#include <vector>
#include <vision_msgs/msg/detection2_d_array.hpp>
#if __has_include(<message_filters/synchronizer.hpp>)
#include <message_filters/sync_policies/approximate_time.hpp>
#include <message_filters/synchronizer.hpp>
#else
#include <message_filters/sync_policies/approximate_time.h>
#include <message_filters/synchronizer.h>
#endif

#include "edgemtl/edgemtl.hpp"

namespace edgemtl_ros2 {

using ImageMessage = sensor_msgs::msg::Image;
using Detections = vision_msgs::msg::Detection2DArray;
using Policy = message_filters::sync_policies::ApproximateTime<ImageMessage, ImageMessage>;

constexpr int QUEUE = 10, WARN_EVERY_MS = 5000;

/// How edgemtl takes an encoding of sensor_msgs/Image; nothing for one that it does not take.
std::optional<edgemtl_pixels> pixels_of(const std::string &encoding) {
    if (encoding == "rgb8") return EDGEMTL_RGB8;
    if (encoding == "bgr8") return EDGEMTL_BGR8;
    if (encoding == "mono8" || encoding == "8UC1") return EDGEMTL_GREY8;
    if (encoding == "mono16" || encoding == "16UC1") return EDGEMTL_GREY16;
    return std::nullopt;
}

class Detector : public rclcpp::Node {
  public:
    explicit Detector(const rclcpp::NodeOptions &options) : rclcpp::Node("edgemtl", options) {
        network = open();
        for (const edgemtl_input &input : network->inputs())
            cameras.push_back({input.name, input.may_be_missing != 0, now().nanoseconds()});
        if (cameras.size() > 2) throw std::invalid_argument("this node takes bundles of one camera or two");
        alone_after_ns = static_cast<std::int64_t>(1e9 * declare_parameter("alone_after_s", 0.5));
        if (cameras.size() == 2) {
            pairs = std::make_unique<message_filters::Synchronizer<Policy>>(Policy(QUEUE));
            pairs->setMaxIntervalDuration(rclcpp::Duration::from_seconds(declare_parameter("slop_s", 0.03)));
            pairs->registerCallback(std::bind(&Detector::run_pair, this, std::placeholders::_1, std::placeholders::_2));
        }
        for (std::size_t i = 0; i < cameras.size(); ++i)
            subscriptions.push_back(create_subscription<ImageMessage>(
                cameras[i].name + "/image", rclcpp::SensorDataQoS(),
                [this, i](const ImageMessage::ConstSharedPtr &message) { take(i, message); }));
        for (const edgemtl_head &head : network->heads()) advertise(head);
    }

  private:
    struct Camera {
        std::string name;
        bool may_be_missing;
        std::int64_t last_ns = 0;  // when its last image came, by this node's clock
    };

    std::unique_ptr<edgemtl::Network> open() {
        const std::string bundle = declare_parameter("bundle", std::string());
        const std::string precision = declare_parameter("precision", std::string("fp32"));
        const std::string provider = declare_parameter("provider", std::string("cpu"));
        edgemtl_options options = edgemtl_default_options();
        options.precision = precision.c_str();
        options.provider = provider.c_str();
        options.threads = static_cast<int>(declare_parameter("threads", std::int64_t{0}));
        return std::make_unique<edgemtl::Network>(bundle, options);
    }

    void advertise(const edgemtl_head &head) {
        const std::string topic = std::string("~/") + head.name;
        if (head.kind == EDGEMTL_BOXES)
            boxes[head.name] = create_publisher<Detections>(topic, QUEUE);
        else if (head.kind >= EDGEMTL_LABEL_MAP && head.kind <= EDGEMTL_VECTOR_MAP && head.kind != EDGEMTL_ATTRIBUTES)
            maps[head.name] = create_publisher<ImageMessage>(topic, QUEUE);
    }

    /// An image of camera `index` has come.
    void take(std::size_t index, const ImageMessage::ConstSharedPtr &message) {
        const std::int64_t now_ns = now().nanoseconds();
        cameras[index].last_ns = now_ns;
        if (!pairs) return run({{index, message}});
        const Camera &other = cameras[1 - index];
        if (other.may_be_missing && now_ns - other.last_ns > alone_after_ns) return run({{index, message}});
        using Event = message_filters::MessageEvent<const ImageMessage>;
        if (index == 0)
            pairs->add<0>(Event(message));
        else
            pairs->add<1>(Event(message));
    }

    void run_pair(const ImageMessage::ConstSharedPtr &first, const ImageMessage::ConstSharedPtr &second) {
        run({{0, first}, {1, second}});
    }

    using Message = std::pair<std::size_t, ImageMessage::ConstSharedPtr>;
    void run(const std::vector<Message> &messages) {
        std::vector<edgemtl::Image> images;
        for (const auto &[index, message] : messages) {
            const auto pixels = pixels_of(message->encoding);
            if (!pixels || message->data.size() < std::size_t{message->step} * message->height ||
                (*pixels == EDGEMTL_GREY16 && message->is_bigendian))
                return warn(cameras[index].name + ": an image of encoding " + message->encoding +
                            " is not taken; publish rgb8, bgr8, mono8 or little-endian mono16");
            images.push_back({cameras[index].name.c_str(), message->data.data(), static_cast<int>(message->height),
                              static_cast<int>(message->width), message->step, *pixels,
                              rclcpp::Time(message->header.stamp).nanoseconds()});
        }
        try {
            publish(network->run(images), messages);
        } catch (const std::exception &error) {
            warn(error.what());
        }
    }

    void publish(const edgemtl::Result &result, const std::vector<Message> &messages) {
        const auto of_reference = std::find_if(messages.begin(), messages.end(), [&](const Message &one) {
            return cameras[one.first].name == result.camera();
        });
        const auto &header = of_reference->second->header;
        for (const edgemtl_head &head : network->heads()) {
            if (const auto at = boxes.find(head.name); at != boxes.end())
                at->second->publish(detections(result, head, header));
            if (const auto at = maps.find(head.name); at != maps.end())
                at->second->publish(map(result.raw(head.name), header));
        }
    }

    template <class Header>
    static Detections detections(const edgemtl::Result &result, const edgemtl_head &head, const Header &header) {
        Detections message;
        message.header = header;
        for (const edgemtl::Box &box : result.boxes(head.name)) {
            auto &one = message.detections.emplace_back();
            one.header = header;
            one.bbox.center.position.x = (box.x1 + box.x2) / 2.0;
            one.bbox.center.position.y = (box.y1 + box.y2) / 2.0;
            one.bbox.size_x = box.x2 - box.x1;
            one.bbox.size_y = box.y2 - box.y1;
            auto &hypothesis = one.results.emplace_back().hypothesis;
            hypothesis.class_id = head.classes[box.class_index];
            hypothesis.score = box.score;
        }
        return message;
    }

    template <class Header>
    static ImageMessage map(const edgemtl_head_result &values, const Header &header) {
        const std::size_t components = values.dimensions > 2 ? static_cast<std::size_t>(values.shape[2]) : 1;
        const bool is_classes = values.element == EDGEMTL_UINT8;
        ImageMessage message;
        message.header = header;
        message.height = static_cast<std::uint32_t>(values.shape[0]);
        message.width = static_cast<std::uint32_t>(values.shape[1]);
        message.encoding = is_classes ? "mono8" : "32FC" + std::to_string(components);
        message.step = static_cast<std::uint32_t>(message.width * components * (is_classes ? 1 : sizeof(float)));
        message.data.resize(std::size_t{message.step} * message.height);
        std::memcpy(message.data.data(), values.values, message.data.size());
        return message;
    }

    void warn(const std::string &line) {
        RCLCPP_WARN_THROTTLE(get_logger(), *get_clock(), WARN_EVERY_MS, "%s", line.c_str());
    }

    std::unique_ptr<edgemtl::Network> network;
    std::vector<Camera> cameras;
    std::int64_t alone_after_ns = 0;
    std::unique_ptr<message_filters::Synchronizer<Policy>> pairs;
    std::vector<rclcpp::Subscription<ImageMessage>::SharedPtr> subscriptions;
    std::map<std::string, rclcpp::Publisher<Detections>::SharedPtr> boxes;
    std::map<std::string, rclcpp::Publisher<ImageMessage>::SharedPtr> maps;
};

}  // namespace edgemtl_ros2

RCLCPP_COMPONENTS_REGISTER_NODE(edgemtl_ros2::Detector)
