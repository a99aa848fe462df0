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
	case GlassOpened:
		return "Emergency access is open: " + n.Request.Rule
	case GlassEnded:
		return "Emergency access has ended and must be reviewed: " + n.Request.Rule
	case GlassOverdue:
		return "Emergency access should have been reviewed: " + n.Request.Rule
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
	glass := n.What == GlassOpened || n.What == GlassEnded || n.What == GlassOverdue
	if glass {
		add("Emergency access", r.Rule)
	} else {
		add("Rule", r.Rule)
	}
	add("Resource", r.Resource)
	add("Database", r.Database)
	add("Workload", r.Workload)
	if r.Actor != r.Workload {
		add("Agent", r.Actor)
	}
	add("On behalf of", r.Principal)
	switch {
	case n.What == GlassOpened:
		add("Opened by", n.By)
		add("Open until", clock(r.Until))
	case glass:
		add("Ended", n.End.Step+" at "+clock(n.End.At))
		add("By", n.End.By)
		if !r.Until.IsZero() {
			add("To be reviewed by", clock(r.Until))
		}
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
	if glass {
		add("On host "+r.Host, n.Command)
		return out
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
	case GlassOpened:
		return "Statements run without the approval that rules ask for. Each is on the record."
	case GlassEnded:
		return "Somebody who did not open or use it must say what was found."
	case GlassOverdue:
		return "Until it is reviewed, nothing more is opened by that name."
	}
	return "This is a test. Nothing waits."
}
