package sink

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// HEC of a sink for Splunk's HTTP Event Collector. URL and TokenFile are
// required. https://docs.splunk.com/Documentation/Splunk/latest/Data/HECRESTendpoints
type HEC struct {
	URL        string `yaml:"url"` // without /services/collector
	TokenFile  string `yaml:"token_file"`
	Index      string `yaml:"index"`       // default: the token's
	SourceType string `yaml:"source_type"` // default sallyport:ocsf
	// Acks asks for the indexer's acknowledgement, and waits for it: the token
	// must have it enabled. Without, an answer only says that Splunk has received.
	Acks bool   `yaml:"acks"`
	CA   string `yaml:"ca"`
}

type hec struct {
	HEC
	p       *outbound.Poster
	token   string
	channel string
	poll    time.Duration
}

func newHEC(o HEC) (*hec, error) {
	token, err := outbound.Secret(o.TokenFile)
	if err != nil {
		return nil, err
	}
	p, err := outbound.New(o.URL, o.CA)
	if err != nil {
		return nil, err
	}
	channel, err := uuid.NewRandomFromReader(rand.Reader)
	if o.SourceType == "" {
		o.SourceType = "sallyport:ocsf"
	}
	return &hec{HEC: o, p: p, token: token, channel: channel.String(), poll: 500 * time.Millisecond}, err
}

func (h *hec) header() http.Header {
	out := http.Header{}
	out.Set("Authorization", "Splunk "+h.token)
	out.Set("Content-Type", "application/json")
	if h.Acks {
		out.Set("X-Splunk-Request-Channel", h.channel)
	}
	return out
}

type hecAnswer struct {
	Code int             `json:"code"`
	Ack  *int64          `json:"ackId"`
	Acks map[string]bool `json:"acks"`
}

// err names a collector's code: its text may repeat what it was sent.
func (a *hecAnswer) err(r *outbound.Reply) error {
	if a.Code == 0 {
		return r.Err()
	}
	return fmt.Errorf("%w, code %d", r.Err(), a.Code)
}

// ofEvent are the codes that speak of what was sent; the others are of the
// token, the index or the server, and go by.
var ofEvent = map[int]bool{5: true, 6: true, 12: true, 13: true, 15: true}

// Send implements Target.
func (h *hec) Send(ctx context.Context, batch []Event) Answer {
	var body []byte
	for i := range batch {
		e := &batch[i]
		at := e.View.Time.UnixNano()
		b, err := json.Marshal(struct {
			Time       json.RawMessage `json:"time"`
			Host       string          `json:"host"`
			Source     string          `json:"source"`
			SourceType string          `json:"sourcetype"`
			Index      string          `json:"index,omitempty"`
			Event      json.RawMessage `json:"event"`
			Fields     map[string]any  `json:"fields"`
		}{
			fmt.Appendf(nil, "%d.%06d", at/1e9, at%1e9/1e3), e.Host, "sallyport", h.SourceType, h.Index, e.JSON, CIM(e),
		})
		if err != nil {
			return failed(batch, 0, err)
		}
		body = append(append(body, b...), '\n')
	}
	r, err := h.p.Post(ctx, http.MethodPost, "/services/collector/event", h.header(), body)
	if err != nil {
		return failed(batch, 0, err)
	}
	var a hecAnswer
	bad := json.Unmarshal(r.Body, &a)
	switch {
	case r.Status == http.StatusRequestEntityTooLarge, r.Status == http.StatusBadRequest && ofEvent[a.Code]:
		return Answer{TooMuch: true, Err: a.err(&r)}
	case !r.OK():
		return failed(batch, r.After, a.err(&r))
	case bad != nil || a.Code != 0: // a proxy's answer, or half a word
		return failed(batch, 0, errors.New("its answer is not that of a collector"))
	case h.Acks:
		if err := h.indexed(ctx, a.Ack); err != nil {
			return failed(batch, 0, err)
		}
	}
	return Answer{}
}

// indexed waits until the indexer has what was sent.
func (h *hec) indexed(ctx context.Context, id *int64) error {
	if id == nil {
		return errors.New("it gave no ackId: is indexer acknowledgement enabled for the token?")
	}
	key := fmt.Sprint(*id)
	for {
		r, err := h.p.Post(ctx, http.MethodPost, "/services/collector/ack?channel="+h.channel, h.header(), fmt.Appendf(nil, `{"acks":[%s]}`, key))
		if err != nil {
			return err
		}
		var a hecAnswer
		if err := json.Unmarshal(r.Body, &a); !r.OK() || err != nil {
			return fmt.Errorf("the state of its acknowledgement: %w", a.err(&r))
		}
		if a.Acks[key] {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it did not acknowledge: %w", ctx.Err())
		case <-time.After(h.poll):
		}
	}
}

// Close implements Target.
func (h *hec) Close() error { h.p.Close(); return nil }
