package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events/internal/outbound"
	"sallyport.dev/sallyport/events/sink"
)

// Webhook of a channel that posts each notice as JSON, signed as Standard Webhooks
// (https://www.standardwebhooks.com) has it, and takes callbacks that are signed so.
type Webhook struct {
	URL string `yaml:"url"`
	// SecretFiles are one or two, "whsec_" and base64, or base64: 24 to 64 bytes.
	// All sign what goes out; each is good for what comes in.
	SecretFiles []string `yaml:"secret_files"`
	CA          string   `yaml:"ca"` // PEM; default: the system's
}

type webhook struct {
	p    *outbound.Poster
	keys [][]byte
	now  func() time.Time
}

func newWebhook(o Webhook) (*webhook, error) {
	keys, err := webhookKeys(o.SecretFiles)
	if err != nil {
		return nil, err
	}
	p, err := outbound.New(o.URL, o.CA)
	return &webhook{p, keys, time.Now}, err
}

func webhookKeys(files []string) (keys [][]byte, err error) {
	for _, f := range files {
		s, err := outbound.Secret(f)
		if err != nil {
			return nil, err
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
		if err != nil || len(key) < 24 || len(key) > 64 {
			return nil, fmt.Errorf("%s: must hold 24 to 64 bytes in base64, such as of: openssl rand -base64 32", f)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// message is what a webhook is sent.
type message struct {
	Type string    `json:"type"`
	Time time.Time `json:"timestamp"`
	Data struct {
		URL     string   `json:"url,omitempty"`
		Request *Request `json:"request,omitempty"`
		Step    int      `json:"step"`
		People  []string `json:"people,omitempty"`
		Ended   *End     `json:"ended,omitempty"`
		More    int      `json:"more,omitempty"`
		By      string   `json:"by,omitempty"`
		Command string   `json:"command,omitempty"`
	} `json:"data"`
}

// Send implements Channel.
func (w *webhook) Send(ctx context.Context, n *Notice) (string, error) {
	m := message{Type: n.What.String(), Time: n.Time.UTC()}
	m.Data.URL, m.Data.Request, m.Data.Step, m.Data.Ended, m.Data.More = n.URL, n.Request, n.Step, n.End, n.More
	m.Data.By, m.Data.Command = n.By, n.Command
	for _, p := range n.People {
		m.Data.People = append(m.Data.People, p.Name)
	}
	body, err := json.Marshal(&m)
	if err != nil {
		return "", err
	}
	at := strconv.FormatInt(w.now().Unix(), 10)
	var signatures []string
	for _, k := range w.keys {
		signatures = append(signatures, sink.Sign(k, n.ID, at, body))
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("Webhook-Id", n.ID)
	h.Set("Webhook-Timestamp", at)
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
	h.Set("Idempotency-Key", n.ID)
	r, err := w.p.Post(ctx, http.MethodPost, "", h, body)
	return "", judge(&r, err)
}

// Close implements Channel.
func (w *webhook) Close() error { w.p.Close(); return nil }
