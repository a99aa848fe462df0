package ocsf

import (
	"strings"

	"sallyport.dev/sallyport/events"
)

// Version is the version of the OCSF schema that events follow.
const Version = "1.7.0"

// class is an OCSF event class.
type class struct {
	category, uid      int64
	categoryName, name string
}

var (
	datastore = class{6, 6005, "Application Activity", "Datastore Activity"}
	lifecycle = class{6, 6002, "Application Activity", "Application Lifecycle"}
	finding   = class{2, 2004, "Findings", "Detection Finding"}
	network   = class{4, 4001, "Network Activity", "Network Activity"}
)

func classOf(k events.Kind) class {
	switch k {
	case events.Bypass:
		return network
	case events.Alarm, events.Drift:
		return finding
	case events.Checkpoint, events.Lifecycle, events.ApprovalRequest, events.ApprovalDecision:
		return lifecycle
	}
	return datastore
}

// id is an OCSF enumeration's value with its caption.
type id struct {
	n    int64
	name string
}

const other = 99

// activity returns the activity within the class.
func activity(ev *events.Event) id {
	switch ev.Kind {
	case events.SessionOpen, events.Login:
		return id{3, "Connect"}
	case events.SessionClose:
		return id{other, "Disconnect"}
	case events.Subjects:
		return id{other, "Subjects"}
	case events.Alarm, events.Drift:
		return id{1, "Create"}
	case events.Bypass:
		return id{5, "Refuse"}
	case events.Checkpoint:
		return id{other, "Checkpoint"}
	case events.ApprovalRequest, events.ApprovalDecision:
		return id{other, ""}
	case events.Lifecycle:
		switch ev.Status {
		case "start":
			return id{3, "Start"}
		case "stop":
			return id{4, "Stop"}
		case "reload":
			return id{8, "Update"}
		case "up":
			return id{6, "Enable"}
		case "down":
			return id{7, "Disable"}
		}
		return id{other, ""}
	}
	return statementActivity(ev)
}

// statementActivity maps a command's first word.
func statementActivity(ev *events.Event) id {
	for _, a := range [...]struct {
		word string
		id   id
	}{
		{"select", id{4, "Query"}},
		{"insert", id{5, "Write"}},
		{"update", id{2, "Update"}},
		{"delete", id{7, "Delete"}},
		{"copy_to", id{1, "Read"}},
		{"copy_from", id{5, "Write"}},
		{"merge", id{2, "Update"}},
		{"truncate", id{7, "Delete"}},
		{"create", id{6, "Create"}},
		{"alter", id{2, "Update"}},
		{"drop", id{7, "Delete"}},
		{"fetch", id{1, "Read"}},
		{"show", id{8, "List"}},
	} {
		if len(ev.Command) >= len(a.word) && strings.EqualFold(ev.Command[:len(a.word)], a.word) {
			return a.id
		}
	}
	if ev.Kind == events.Response {
		return id{other, "Response"}
	}
	if ev.Command == "" {
		return id{0, "Unknown"}
	}
	return id{other, ""} // named by the event
}

func severity(ev *events.Event) id {
	switch ev.Kind {
	case events.Bypass, events.Alarm:
		return id{4, "High"}
	case events.Block, events.Drift:
		return id{3, "Medium"}
	case events.Login, events.Statement:
		if (!ev.Verdict.Runs() && ev.Verdict != events.Explained) || ev.Verdict == events.Observed {
			return id{3, "Medium"}
		}
	}
	return id{1, "Informational"}
}

// status returns how what the event tells of ended. Findings have a status of
// another meaning.
func status(ev *events.Event) id {
	switch ev.Kind {
	case events.Alarm, events.Drift:
		return id{1, "New"}
	case events.Block:
		return id{2, "Failure"}
	case events.Bypass:
		if ev.Verdict == events.Observed {
			return id{1, "Success"}
		}
		return id{2, "Failure"}
	case events.Statement:
		if ev.Status == "" {
			return id{0, "Unknown"}
		}
	case events.Login:
		if !ev.Verdict.Runs() {
			return id{2, "Failure"}
		}
		return id{1, "Success"}
	}
	switch ev.Status {
	case "ok", "", "start", "stop", "reload", "up", "down", "recovered", "login", "heartbeat", "requested", "seen", "approved", "consumed", "opened", "used", "closed", "reviewed":
		return id{1, "Success"}
	case "error", "failed", "denied", "expired", "withdrawn", "revoked":
		return id{2, "Failure"}
	}
	return id{other, "Other"}
}

// decided reports whether the kind carries a verdict.
func decided(k events.Kind) bool {
	return k == events.Statement || k == events.Block || k == events.Login
}

// control returns action and disposition of a verdict.
func control(v events.Verdict) (action, disposition id) {
	switch v {
	case events.Allow:
		return id{1, "Allowed"}, id{1, "Allowed"}
	case events.Mask:
		return id{4, "Modified"}, id{other, "Masked"}
	case events.Blocked:
		return id{2, "Denied"}, id{2, "Blocked"}
	case events.Observed:
		return id{3, "Observed"}, id{17, "Logged"}
	case events.Explained: // nothing was done, nor kept from being done
		return id{3, "Observed"}, id{other, "Explained"}
	}
	return id{2, "Denied"}, id{26, "Unauthorized"}
}
