// Package rules loads the policy language and evaluates it: a *Policy is a
// policy.Engine. docs/policy.md is the language's manual.
//
// A rule allows, masks or blocks. Allow rules alone grant; mask and block
// rules alone take away; so the order of rules and files never matters. What
// no rule allows is denied. Whatever cannot be told (a condition that fails,
// a name that is not resolved) counts against the request: it does not allow,
// and it does mask and block.
//
// Loading resolves nothing of the world but the files it is given and time
// zones. Afterwards a Policy is immutable and pure: no I/O, and no clock but
// the time that it is handed.
package rules
