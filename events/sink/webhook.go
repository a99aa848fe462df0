package sink

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// Webhook of a sink that posts batches of CloudEvents
// (application/cloudevents-batch+json), signed as Standard Webhooks
// (https://www.standardwebhooks.com) has it. URL and SecretFile are required.
type Webhook struct {
	URL        string `yaml:"url"`
	SecretFile string `yaml:"secret_file"` // "whsec_" and base64, or base64: 24 to 64 bytes
	CA         string `yaml:"ca"`          // PEM; default: the system's
}

type webhook struct {
	p   *outbound.Poster
	key []byte
	now func() time.Time
}

func newWebhook(o Webhook) (*webhook, error) {
	s, err := outbound.Secret(o.SecretFile)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("%s: must hold 24 to 64 bytes in base64, such as of: openssl rand -base64 32", o.SecretFile)
	}
	p, err := outbound.New(o.URL, o.CA)
	return &webhook{p: p, key: key, now: time.Now}, err
}

// Send implements Target.
func (w *webhook) Send(ctx context.Context, batch []Event) Answer {
	body := []byte{'['}
	ids := sha256.New()
	for i := range batch {
		e, err := CloudEvent(&batch[i])
		if err != nil {
			return failed(batch, 0, err)
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, e...)
		fmt.Fprintln(ids, batch[i].UID)
	}
	body = append(body, ']')
	// The id is of the batch's events: the same batch sent again has it again.
	id := "msg_" + hex.EncodeToString(ids.Sum(nil)[:16])
	at := strconv.FormatInt(w.now().Unix(), 10)
	h := http.Header{}
	h.Set("Content-Type", "application/cloudevents-batch+json; charset=utf-8")
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", at)
	h.Set("Webhook-Signature", Sign(w.key, id, at, body))
	r, err := w.p.Post(ctx, http.MethodPost, "", h, body)
	if err != nil {
		return failed(batch, 0, err)
	}
	switch {
	case r.OK():
		return Answer{}
	case r.Status == http.StatusBadRequest, r.Status == http.StatusRequestEntityTooLarge, r.Status == http.StatusUnprocessableEntity:
		return Answer{TooMuch: true, Err: r.Err()}
	}
	return failed(batch, r.After, r.Err())
}

// Close implements Target.
func (w *webhook) Close() error { w.p.Close(); return nil }

// Sign returns a signature of Standard Webhooks, version 1.
func Sign(key []byte, id, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%s.", id, timestamp)
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// ErrSignature: what was received is not what the sender signed, or is old.
var ErrSignature = errors.New("sink: the signature is not of this delivery")

// CheckSignature is a receiver's part: the signature is of this body, and not
// older than five minutes.
func CheckSignature(key []byte, h http.Header, body []byte, now time.Time) error {
	id, at := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || now.Sub(time.Unix(n, 0)).Abs() > 5*time.Minute {
		return ErrSignature
	}
	want := Sign(key, id, at, body)
	for _, s := range strings.Fields(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(s), []byte(want)) {
			return nil
		}
	}
	return ErrSignature
}
