// A browser gives no worker to a page that is opened as a file: a hidden frame runs the search's script in its place.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    onmessage = null

    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.documentElement.append(this.frame)
      const { contentWindow: inside, contentDocument: page } = this.frame
      inside.postMessage = data =>
        setTimeout(() => {
          // Later, as a worker's messages are: the page first draws what was typed.
          const event = new MessageEvent("message", { data })
          this.dispatchEvent(event)
          this.onmessage?.(event)
        })
      const script = page.createElement("script")
      script.src = new URL(url, document.baseURI).href
      this.ready = new Promise(done => script.addEventListener("load", done))
      page.head.append(script)
    }

    postMessage(data) {
      const event = () => new MessageEvent("message", { data: structuredClone(data) })
      this.ready.then(() => setTimeout(() => this.frame.contentWindow.dispatchEvent(event())))
    }

    terminate() {
      this.frame.remove()
    }
  }
