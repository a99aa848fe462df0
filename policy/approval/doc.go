// Package approval keeps requests for approval, what people decided about them,
// and how they proved who they are. It is pure: what must last goes through a Log,
// the time and the record are its caller's.
//
// A Book is the only maker of what a Gate consumes. Each change of it is durable
// before it counts: what was consumed can't be consumed again, whatever ends
// meanwhile, and what can't be written is refused.
package approval
