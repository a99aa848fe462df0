// Package notify tells approvers that requests for approval wait: by signed
// webhooks, Slack and Microsoft Teams, one list of them after the other while nobody
// decides.
//
// It tells, and nothing else. A message holds no statement and no data, only who
// asks, where, under which rule, and the address of the page at which an approver
// logs in, is shown the statement, and decides. Nothing that comes back from a
// channel decides anything. Whom it tells is no question of who may approve: that
// the rule says alone.
//
// What is to be told stands in a file before NATS is told that it was read, and
// what was told is marked there: a restart forgets nothing, and tells again at most
// what was under way. docs/notify.md is the reference.
package notify
