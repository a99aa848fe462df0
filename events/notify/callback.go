package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"sallyport.dev/sallyport/events/sink"
)

// Bounds of a callback. Slack sends the message along.
const (
	mostCallback = 1 << 20
	readTime     = 10 * time.Second
)

// receiver verifies what comes back from a channel.
type receiver interface {
	// verify returns which request it is about, and a name of this very message: it
	// counts once. The error errStranger is of one that did not sign it.
	verify(h http.Header, body []byte, now time.Time) (c *callback, err error)
	// answer tells who clicked where to log in: url is "" where the request is not
	// known.
	answer(w http.ResponseWriter, n *Notifier, c *callback, url string)
}

// callback is one that was verified.
type callback struct {
	host, request string
	once          string // unique
	reply         string // address that an answer goes to, of Slack
}

// errStranger: a callback is not signed by its channel, or is old.
var errStranger = errors.New("notify: the callback is not signed by its channel, or is old")

// serve takes callbacks until ctx ends. What it returns waits for that.
func (n *Notifier) serve(ctx context.Context, failed func(error)) (stopped func(), err error) {
	if n.Settings.Listen == "" {
		return func() {}, nil
	}
	mux := http.NewServeMux()
	for i := range n.Settings.Channels {
		k := &n.Settings.Channels[i]
		r, err := receiverOf(k)
		if err != nil {
			return nil, fmt.Errorf("notify: channel %s: %w", k.Name, err)
		}
		if r != nil {
			mux.HandleFunc("POST /callbacks/"+k.Name, func(w http.ResponseWriter, req *http.Request) { n.called(w, req, k.Name, r, failed) })
		}
	}
	l, err := net.Listen("tcp", n.Settings.Listen)
	if err != nil {
		return nil, fmt.Errorf("notify: listen: %w", err)
	}
	n.Log.Info("callbacks are taken", "address", l.Addr().String())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: readTime, WriteTimeout: readTime, MaxHeaderBytes: 16 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("notify: callbacks: %w", err))
		}
	}()
	return func() {
		short, cancel := context.WithTimeout(context.Background(), grace) // answers get out
		defer cancel()
		if srv.Shutdown(short) != nil {
			srv.Close()
		}
		<-done
	}, nil
}

func receiverOf(k *ChannelConfig) (receiver, error) {
	switch {
	case k.Webhook != nil:
		keys, err := webhookKeys(k.Webhook.SecretFiles)
		return &webhookReceiver{keys}, err
	case k.Slack != nil && len(k.Slack.SigningSecretFiles) > 0:
		return newSlackReceiver(*k.Slack)
	}
	return nil, nil
}

// called answers a callback. It decides nothing, whoever signed it: it says where to
// log in. One that can't be answered has not come: it may be sent again.
func (n *Notifier) called(w http.ResponseWriter, req *http.Request, channel string, r receiver, failed func(error)) {
	count := func(outcome string) {
		if n.Hooks.Callback != nil {
			n.Hooks.Callback(channel, outcome)
		}
	}
	refuse := func(status int, why string) {
		count("refused")
		http.Error(w, why, status)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, mostCallback))
	if err != nil {
		refuse(http.StatusRequestEntityTooLarge, "too long, or broken off")
		return
	}
	now := time.Now()
	c, err := r.verify(req.Header, body, now)
	switch {
	case errors.Is(err, errStranger):
		refuse(http.StatusUnauthorized, "the signature is not of this message, or is old")
		return
	case err != nil:
		refuse(http.StatusBadRequest, "not understood")
		return
	}
	fresh, err := n.store.once(channel+" "+c.once, now)
	if err == nil && !fresh {
		refuse(http.StatusConflict, "this message has come before")
		return
	}
	var known *Request
	waits := false
	if err == nil && validID.MatchString(c.request) {
		known, waits, err = n.store.find(c.host, c.request, now)
	}
	if err == nil && waits && n.Record != nil {
		if err = n.record("answered", channel, known, now); err != nil {
			failed(err)
		}
	}
	if err != nil {
		if fresh {
			err = errors.Join(err, n.store.unused(channel+" "+c.once))
		}
		n.Log.Error("a callback can't be answered", "channel", channel, "error", err)
		refuse(http.StatusInternalServerError, "try again")
		return
	}
	if known == nil {
		count("unknown")
		r.answer(w, n, c, "")
		return
	}
	count("answered")
	n.Log.Info("somebody on a channel was told where to decide", "channel", channel, "host", known.Host, "request", known.ID)
	r.answer(w, n, c, link(n.Settings.Page, known.Host, known.ID))
}

type webhookReceiver struct{ keys [][]byte }

func (r *webhookReceiver) verify(h http.Header, body []byte, now time.Time) (*callback, error) {
	signed := false
	for _, k := range r.keys {
		signed = signed || sink.CheckSignature(k, h, body, now) == nil
	}
	id := h.Get("Webhook-Id")
	if !signed || id == "" || len(id) > 200 {
		return nil, errStranger
	}
	var b struct {
		Host    string `json:"host"`
		Request string `json:"request"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, err
	}
	return &callback{host: b.Host, request: b.Request, once: id}, nil
}

func (r *webhookReceiver) answer(w http.ResponseWriter, _ *Notifier, _ *callback, url string) {
	if url == "" {
		http.Error(w, "there is no such request", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", url)
	w.WriteHeader(http.StatusSeeOther)
	json.NewEncoder(w).Encode(map[string]any{"url": url, "decided": false, "remedy": "log in there as an approver, and decide"})
}
