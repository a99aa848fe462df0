// Package policy is the vocabulary of a decision: what a request says of
// itself, what an engine answers, and the Gate, the only maker of a Decision.
// The zero value of every type here refuses.
//
// policy/rules loads and evaluates the rule language, policy/mask holds the
// masks; both are pure: no I/O and no clock of their own.
package policy
