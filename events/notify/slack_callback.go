package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// slackReceiver takes clicks on the buttons of messages
// (https://docs.slack.dev/interactivity/handling-user-interaction), signed as Slack
// signs (https://docs.slack.dev/authentication/verifying-requests-from-slack).
type slackReceiver struct {
	secrets []string
	// Answers go to addresses that messages name: these only.
	api *url.URL
	ca  string
}

func newSlackReceiver(o Slack) (*slackReceiver, error) {
	r := &slackReceiver{ca: o.CA}
	for _, f := range o.SigningSecretFiles {
		s, err := outbound.Secret(f)
		if err != nil {
			return nil, err
		}
		r.secrets = append(r.secrets, s)
	}
	var err error
	r.api, err = url.Parse(o.API)
	return r, err
}

// slackWindow is how old a signature may be.
const slackWindow = 5 * time.Minute

// SlackSignature is version 0 of what Slack signs a request with.
func SlackSignature(secret, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("v0:" + timestamp + ":"))
	m.Write(body)
	return "v0=" + hex.EncodeToString(m.Sum(nil))
}

func (r *slackReceiver) verify(h http.Header, body []byte, now time.Time) (*callback, error) {
	at, signature := h.Get("X-Slack-Request-Timestamp"), h.Get("X-Slack-Signature")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || now.Sub(time.Unix(n, 0)).Abs() > slackWindow {
		return nil, errStranger
	}
	signed := false
	for _, s := range r.secrets {
		signed = signed || hmac.Equal([]byte(signature), []byte(SlackSignature(s, at, body)))
	}
	if !signed {
		return nil, errStranger
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	var p struct {
		Type     string `json:"type"`
		Response string `json:"response_url"`
		Actions  []struct {
			Value string `json:"value"`
		} `json:"actions"`
	}
	if err := json.Unmarshal([]byte(form.Get("payload")), &p); err != nil {
		return nil, err
	}
	if p.Type != "block_actions" || len(p.Actions) != 1 {
		return nil, errors.New("notify: it is no click on a button")
	}
	c := &callback{once: signature, reply: p.Response}
	c.host, c.request, _ = strings.Cut(p.Actions[0].Value, "/")
	return c, nil
}

// answer says OK at once, as Slack wants, and then tells who clicked, and nobody else,
// where to decide.
func (r *slackReceiver) answer(w http.ResponseWriter, n *Notifier, c *callback, address string) {
	w.WriteHeader(http.StatusOK)
	if !r.mayReply(c.reply) {
		return
	}
	text := "Nothing is decided by a click. Log in here, look, and say why: <" + address + ">"
	if address == "" {
		text = "This request is not known here any more."
	}
	select {
	case n.slots <- struct{}{}:
	default: // so many click that some must use the link in the message
		return
	}
	n.used.Go(func() {
		defer func() { <-n.slots }()
		if err := r.reply(c.reply, text); err != nil {
			n.Log.Warn("who clicked could not be answered", "error", err)
		}
	})
}

// mayReply reports whether answers may go to an address: one of Slack's, or where the
// configuration has the API.
func (r *slackReceiver) mayReply(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.User != nil {
		return false
	}
	if u.Scheme == r.api.Scheme && u.Host == r.api.Host {
		return true
	}
	return u.Scheme == "https" && (u.Host == "hooks.slack.com" || u.Host == "hooks.slack-gov.com")
}

func (r *slackReceiver) reply(address, text string) error {
	body, err := json.Marshal(map[string]any{"response_type": "ephemeral", "replace_original": false, "text": text})
	if err != nil {
		return err
	}
	p, err := outbound.New(address, r.ca)
	if err != nil {
		return err
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	h := http.Header{}
	h.Set("Content-Type", "application/json; charset=utf-8")
	res, err := p.Post(ctx, http.MethodPost, "", h, body)
	return judge(&res, err)
}
