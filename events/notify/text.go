package notify

import (
	"fmt"
	"strconv"
	"time"
)

// headline says in one line what a notice is about. It holds nothing that a client
// chose.
func headline(n *Notice) string {
	switch n.What {
	case Asked:
		if n.Step > 0 {
			return "Still waits for approval: " + n.Request.Rule
		}
		return "Waits for approval: " + n.Request.Rule
	case Ended:
		return "Waits no more (" + n.End.Step + "): " + n.Request.Rule
	case Summary:
		return fmt.Sprintf("%d more requests wait for approval", n.More)
	}
	return "sallyport: this channel works"
}

// facts are what people are told of a request: names and values.
func facts(n *Notice) (out [][2]string) {
	r := n.Request
	add := func(name, value string) {
		if value != "" {
			out = append(out, [2]string{name, value})
		}
	}
	add("Rule", r.Rule)
	add("Resource", r.Resource)
	add("Database", r.Database)
	add("Workload", r.Workload)
	if r.Actor != r.Workload {
		add("Agent", r.Actor)
	}
	add("On behalf of", r.Principal)
	switch {
	case n.End != nil:
		add("Ended", n.End.Step+" at "+clock(n.End.At))
		if n.End.Step == "approved" || n.End.Step == "denied" || n.End.Step == "revoked" {
			add("By", n.End.By)
		}
	default:
		add("Covers", r.Covers)
		add("Waits until", clock(r.Until))
		if r.Lacks > 1 {
			add("Approvals wanted", strconv.Itoa(r.Lacks))
		}
	}
	add("Request", r.Host+" / "+r.ID)
	return out
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// footer says what the message is not.
func footer(n *Notice) string {
	switch n.What {
	case Asked, Summary:
		return "Nothing decides here. Log in to be shown the statement, and say why."
	case Ended:
		return "The record has who decided, and why."
	}
	return "This is a test. Nothing waits."
}
