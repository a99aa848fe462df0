package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// Channel is a way to people.
type Channel interface {
	// Send hands a notice on, and returns what a later one needs to change the
	// message, "" where that can't be. It returns when ctx ends. It is called by
	// one goroutine at a time. Errors hold nothing of what was sent.
	Send(ctx context.Context, n *Notice) (ref string, err error)
	// Close lets go of connections.
	Close() error
}

// Notice is one thing to tell.
type Notice struct {
	// ID is the same each time that the notice is sent.
	ID   string
	What What
	Time time.Time
	// URL is where to log in and decide; of a Summary, where the requests are listed; none of
	// emergency access.
	URL string

	Request *Request // of Asked, Ended and emergency access
	Step    int      // of the route, from 0: how often it was escalated
	People  []Named  // who is to look first, of Asked
	End     *End     // of Ended, GlassEnded and GlassOverdue
	By      string   // who opened it, of GlassOpened
	Command string   // that says more on the host, or reviews it, of emergency access
	Refs    []string // what Send returned for the request on this channel, of Ended
	More    int      // requests that are not told one by one, of Summary
}

// What says what a Notice is about.
type What uint8

// The zero What is none.
const (
	_       What = iota
	Asked        // a request waits
	Ended        // it does no more
	Summary      // more wait than are told one by one
	Test         // nothing: somebody tries the channel
	// Of emergency access.
	GlassOpened  // it is open
	GlassEnded   // it is no more, and must be reviewed
	GlassOverdue // nobody has reviewed it in time
)

// String returns "approval.requested", "approval.ended", "approval.summary",
// "test", "break_glass.opened", "break_glass.ended" or "break_glass.overdue".
func (w What) String() string {
	switch w {
	case Asked:
		return "approval.requested"
	case Ended:
		return "approval.ended"
	case Summary:
		return "approval.summary"
	case Test:
		return "test"
	case GlassOpened:
		return "break_glass.opened"
	case GlassEnded:
		return "break_glass.ended"
	case GlassOverdue:
		return "break_glass.overdue"
	}
	return ""
}

// Named is a person of the configuration. One that it does not know has a name only.
type Named struct {
	Name string
	Person
}

// busy is an error that is the channel's, and not the notice's: nothing is sent for
// a while.
type busy struct {
	error
	after time.Duration // that it asked to wait; 0: it did not say
}

func (b *busy) Unwrap() error { return b.error }

// judge makes an error of an answer that is not the one that is hoped for.
func judge(r *outbound.Reply, err error) error {
	switch {
	case err != nil:
		return &busy{err, 0}
	case r.OK():
		return nil
	case r.Status == http.StatusTooManyRequests, r.Status >= 500:
		return &busy{r.Err(), r.After}
	}
	return r.Err()
}

// Open opens a checked channel.
func Open(k *ChannelConfig) (c Channel, err error) {
	switch {
	case k.Webhook != nil:
		c, err = newWebhook(*k.Webhook)
	case k.Slack != nil:
		c, err = newSlack(*k.Slack)
	case k.Teams != nil:
		c, err = newTeams(*k.Teams)
	default:
		err = errors.New("it leads nowhere")
	}
	if err != nil {
		return nil, fmt.Errorf("notify: channel %s: %w", k.Name, err)
	}
	return c, nil
}
