package expr

import (
	"strings"
)

// Reason is the kind of a Failure. Its text is stable.
type Reason string

// The reasons why an expression gives no value for a row.
const (
	ReasonMissing  Reason = "missing"  // a value is missing
	ReasonNull     Reason = "null"     // a value is null
	ReasonType     Reason = "type"     // a value has another kind than the expression needs
	ReasonOverflow Reason = "overflow" // a result is outside of 64 bits, or of the floats
	ReasonZero     Reason = "zero"     // a division by zero
	ReasonLossy    Reason = "lossy"    // a number would not be the same number after a conversion
	ReasonIndex    Reason = "index"    // a list has no element of this number
	ReasonValue    Reason = "value"    // a text can't be read as a number, a time or JSON, or an argument makes no sense
	ReasonBudget   Reason = "budget"   // more steps or bytes than an evaluation may use
)

// Failure says why an expression gives no value for a row. It never has a value of the row in it.
type Failure struct {
	Reason Reason
	// Message says what went wrong, with the types of the values.
	Message string
	// Source is the expression, and From and To are the offsets of the part that failed.
	Source   *Source
	From, To int
}

// Error returns function, path, document and line, the part of the expression that failed, and the message, in one line.
func (f *Failure) Error() string {
	var b strings.Builder
	if f.Source.Function != "" {
		b.WriteString(f.Source.Function + ": ")
	}
	b.WriteString(f.Source.place(f.From))
	if part := strings.Join(strings.Fields(f.Source.Text[f.From:f.To]), " "); part != "" {
		const most = 80
		if runes := []rune(part); len(runes) > most {
			part = string(runes[:most]) + "…"
		}
		b.WriteString(part + ": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Detail returns the same as Error, and below it the expression with carets under the part that failed.
func (f *Failure) Detail() string {
	return f.Source.place(f.From) + f.Message + "\n" + strings.TrimSuffix(f.Source.caret(f.From, f.To), "\n")
}

// site is a part of an expression at which an evaluation may fail.
type site struct {
	source   *Source
	from, to int
}

// fail notes a failure. It returns false, which every function of a compiled expression returns as its second result when it has failed.
func (fr *Frame) fail(at *site, reason Reason, message string) bool {
	fr.failure = &Failure{Reason: reason, Message: message, Source: at.source, From: at.from, To: at.to}
	return false
}

// failKind notes that a value has the wrong kind. want names the kinds that are right, such as "a number".
func (fr *Frame) failKind(at *site, is Kind, want string) bool {
	switch is {
	case KindMissing:
		return fr.fail(at, ReasonMissing, "is missing; "+want+" is needed: write ?? and a default behind it, or test it with has(…)")
	case KindNull:
		return fr.fail(at, ReasonNull, "is null; "+want+" is needed: write ?? and a default behind it, or test it with != null")
	case KindNumber:
		if strings.Contains(want, "number") || want == "an int" {
			return fr.fail(at, ReasonLossy, "is a number that neither 64 bits nor a float can hold; "+want+" is needed")
		}
	}
	return fr.fail(at, ReasonType, "is "+withArticle(is)+"; "+want+" is needed")
}

// withArticle returns the name of a kind with its article, such as "an int".
func withArticle(k Kind) string {
	switch k {
	case KindInt, KindObject, KindAny:
		return "an " + k.String()
	case KindNull, KindMissing:
		return k.String()
	case KindString:
		return "a string"
	}
	return "a " + k.String()
}
