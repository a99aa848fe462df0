package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// Teams of a channel of Microsoft Teams: a workflow "When a Teams webhook request is
// received", or an incoming webhook, is posted an Adaptive Card
// (https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using).
type Teams struct {
	WebhookFile string `yaml:"webhook_file"` // holds the address: whoever has it may post
	CA          string `yaml:"ca"`           // PEM; default: the system's
}

type teams struct{ p *outbound.Poster }

func newTeams(o Teams) (*teams, error) {
	address, err := outbound.Secret(o.WebhookFile)
	if err != nil {
		return nil, err
	}
	if err := outbound.CheckURL(address); err != nil {
		return nil, fmt.Errorf("%s: %w", o.WebhookFile, err)
	}
	p, err := outbound.New(address, o.CA)
	return &teams{p}, err
}

// mostTeams is the size of a message, in bytes: Teams takes 28 KB.
const mostTeams = 25 << 10

// Send implements Channel. A message can't be changed: an end is another one.
func (t *teams) Send(ctx context.Context, n *Notice) (string, error) {
	body, err := json.Marshal(teamsMessage(n))
	if err == nil && len(body) > mostTeams && len(n.People) > 0 {
		few := *n
		few.People = nil
		body, err = json.Marshal(teamsMessage(&few))
	}
	if err != nil {
		return "", err
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	r, err := t.p.Post(ctx, http.MethodPost, "", h, body)
	if err := judge(&r, err); err != nil {
		return "", err
	}
	// Incoming webhooks answer 200, and say in words that Teams did not take it.
	if bytes.Contains(r.Body, []byte("HTTP error 429")) {
		return "", &busy{fmt.Errorf("it answered %d, and that Teams has had too many", r.Status), r.After}
	}
	if bytes.Contains(r.Body, []byte("endpoint returned HTTP error")) {
		return "", fmt.Errorf("it answered %d, and that Teams did not take it", r.Status)
	}
	return "", nil
}

// Close implements Channel.
func (t *teams) Close() error { t.p.Close(); return nil }

// run is text in which Markdown means nothing: a TextRun, not a TextBlock.
func run(text string, more object) object {
	o := object{"type": "TextRun", "text": text}
	for k, v := range more {
		o[k] = v
	}
	return o
}

func teamsMessage(n *Notice) object {
	line := func(runs ...object) object { return object{"type": "RichTextBlock", "inlines": runs} }
	body := []object{line(run(headline(n), object{"weight": "Bolder", "size": "Medium"}))}
	if n.Request != nil {
		for _, f := range facts(n) {
			body = append(body, line(run(f[0]+": ", object{"isSubtle": true}), run(f[1], nil)))
		}
	}
	card := object{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4"}
	if who, entities := teamsPeople(n.People); who != "" {
		body = append(body, object{"type": "TextBlock", "text": who, "wrap": true})
		card["msteams"] = object{"entities": entities}
	}
	card["body"] = append(body, line(run(footer(n), object{"isSubtle": true, "size": "Small"})))
	if n.What == Asked || n.What == Summary {
		card["actions"] = []object{{"type": "Action.OpenUrl", "title": "Log in and decide", "url": n.URL}}
	}
	return object{"type": "message", "attachments": []object{{
		"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card,
	}}}
}

// teamsPeople mentions those whom the configuration knows there, and names others.
// Names are of letters, digits, '.' and '-': there is no Markdown in them.
func teamsPeople(people []Named) (text string, entities []object) {
	var names []string
	entities = []object{}
	for _, p := range people {
		if p.Teams == "" {
			names = append(names, p.Name)
			continue
		}
		at := "<at>" + p.Name + "</at>"
		names = append(names, at)
		entities = append(entities, object{"type": "mention", "text": at, "mentioned": object{"id": p.Teams, "name": p.Name}})
	}
	if len(names) == 0 {
		return "", nil
	}
	return "First to look: " + strings.Join(names, ", "), entities
}
