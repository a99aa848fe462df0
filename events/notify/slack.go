package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// Slack of a channel there: with the token of a bot (chat.postMessage and
// chat.update, https://docs.slack.dev/reference/methods/chat.postMessage), or with
// an incoming webhook (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
type Slack struct {
	TokenFile string `yaml:"token_file"` // of the bot: xoxb-...
	Channel   string `yaml:"channel"`    // its ID, C..., of TokenFile
	// WebhookFile holds the address of an incoming webhook, in place of a token.
	WebhookFile string `yaml:"webhook_file"`
	// SigningSecretFiles are one or two that clicks are verified by; none: no
	// clicks are taken.
	SigningSecretFiles []string `yaml:"signing_secret_files"`
	API                string   `yaml:"api"` // default https://slack.com/api
	CA                 string   `yaml:"ca"`  // PEM; default: the system's
}

type slackBot struct {
	p       *outbound.Poster
	token   string
	channel string
}

func newSlack(o Slack) (*slackBot, error) {
	file, address := o.TokenFile, o.API
	if o.WebhookFile != "" {
		file = o.WebhookFile
	}
	s, err := outbound.Secret(file)
	if err != nil {
		return nil, err
	}
	k := &slackBot{token: s, channel: o.Channel}
	if o.WebhookFile != "" {
		if err := outbound.CheckURL(s); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		k.token, address = "", s
	}
	k.p, err = outbound.New(address, o.CA)
	return k, err
}

// slackAnswer is of the Web API.
type slackAnswer struct {
	OK      bool   `json:"ok"`
	Error   string `json:"error"`
	Channel string `json:"channel"`
	TS      string `json:"ts"`
}

// Send implements Channel.
func (s *slackBot) Send(ctx context.Context, n *Notice) (ref string, err error) {
	m := map[string]any{"text": slackLine(n), "blocks": slackBlocks(n)}
	if n.What != Ended || s.token == "" {
		m["unfurl_links"], m["unfurl_media"] = false, false
	}
	if s.token == "" {
		_, err := s.post(ctx, "", m)
		return "", err
	}
	m["parse"], m["link_names"] = "none", false
	if n.What != Ended {
		m["channel"] = s.channel
		a, err := s.post(ctx, "/chat.postMessage", m)
		if err != nil {
			return "", err
		}
		return a.Channel + " " + a.TS, nil
	}
	for _, r := range n.Refs {
		channel, ts, ok := strings.Cut(r, " ")
		if !ok {
			continue
		}
		m["channel"], m["ts"] = channel, ts
		if _, err := s.post(ctx, "/chat.update", m); err != nil {
			return "", err
		}
	}
	return "", nil
}

// slackCode is what an error of the Web API looks like.
var slackCode = regexp.MustCompile(`^[a-z_]{1,60}$`)

func (s *slackBot) post(ctx context.Context, method string, m map[string]any) (a slackAnswer, err error) {
	body, err := json.Marshal(m)
	if err != nil {
		return a, err
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json; charset=utf-8")
	if s.token != "" {
		h.Set("Authorization", "Bearer "+s.token)
	}
	r, err := s.p.Post(ctx, http.MethodPost, method, h, body)
	if err := judge(&r, err); err != nil || s.token == "" {
		return a, err
	}
	switch err := json.Unmarshal(r.Body, &a); {
	case err != nil:
		return a, &busy{errors.New("its answer is not understood"), 0}
	case a.OK && (a.TS == "" || a.Channel == ""):
		return a, errors.New("it does not say which message it made")
	case a.OK, method == "/chat.update" && a.Error == "message_not_found": // somebody has removed it
		return a, nil
	case a.Error == "ratelimited", a.Error == "rate_limited", a.Error == "service_unavailable", a.Error == "internal_error":
		return a, &busy{errors.New("it answered " + a.Error), r.After}
	case slackCode.MatchString(a.Error):
		return a, errors.New("it answered " + a.Error)
	}
	return a, errors.New("it refuses the message")
}

// Close implements Channel.
func (s *slackBot) Close() error { s.p.Close(); return nil }

// Bounds of Block Kit, in characters.
const (
	slackHeader  = 150
	slackSection = 3000
	slackField   = 2000
)

// slackEscape is what Slack asks of all text: no link, mention or command is left.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// slackText escapes text, and cuts it so that what comes of it has at most n
// characters.
func slackText(s string, n int) string {
	var b strings.Builder
	left := n
	for _, r := range s {
		e := slackEscape.Replace(string(r))
		if left -= utf8.RuneCountInString(e); left < 1 {
			b.WriteString("…")
			break
		}
		b.WriteString(e)
	}
	return b.String()
}

type object = map[string]any

func plain(s string, n int) object {
	return object{"type": "plain_text", "text": slackText(s, n), "emoji": false}
}

// slackLine is the message where blocks are not shown.
func slackLine(n *Notice) string { return slackText(headline(n), slackSection) }

func slackBlocks(n *Notice) []object {
	blocks := []object{{"type": "header", "text": plain(headline(n), slackHeader)}}
	if r := n.Request; r != nil {
		var fields []object
		for _, f := range facts(n) {
			fields = append(fields, plain(f[0]+"\n"+f[1], slackField))
		}
		blocks = append(blocks, object{"type": "section", "fields": fields})
	}
	if who := slackPeople(n.People); who != "" {
		blocks = append(blocks, object{"type": "section", "text": object{"type": "mrkdwn", "text": who, "verbatim": true}})
	}
	if n.What == Asked || n.What == Summary {
		button := object{"type": "button", "action_id": "open", "text": plain("Log in and decide", 75), "url": n.URL, "style": "primary"}
		if r := n.Request; r != nil {
			button["value"] = r.Host + "/" + r.ID
		}
		blocks = append(blocks, object{"type": "actions", "elements": []object{button}})
	}
	return append(blocks, object{"type": "context", "elements": []object{plain(footer(n), slackField)}})
}

// slackPeople mentions those whom the configuration knows there, and names others.
func slackPeople(people []Named) string {
	var out bytes.Buffer
	for _, p := range people {
		name := slackText(p.Name, 100)
		if p.Slack != "" {
			name = "<@" + p.Slack + ">"
		}
		if out.Len()+len(name) > slackSection-100 {
			break
		}
		out.WriteString(name + " ")
	}
	if out.Len() == 0 {
		return ""
	}
	return "First to look: " + strings.TrimSpace(out.String())
}
