package rowfile

import (
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// BadRow is the error of a row that can't be read. The Reader goes on with the next row.
type BadRow struct {
	// Number is the number of the row's first line, counted from 1. In a JSON array it is the number of the row. Unit is "line" or "row".
	Number int
	Unit   string
	// Code is batch.CodeRowUndecodable, or batch.CodeRowTooLarge.
	Code batch.Code
	// Reason is for people. It may quote a short piece of the row.
	Reason string
	// Text is the row as it stands in the input, without its line end. It is nil if it is over the limit. It is valid until the next call of
	// Next.
	Text []byte
}

// Error names the line, the code and the reason.
func (b *BadRow) Error() string {
	return fmt.Sprintf("%s %d: %s: %s", b.Unit, b.Number, b.Code, b.Reason)
}

// NotRows is the error of input that a Reader can't read at all. Next returns nothing else from then on.
type NotRows struct {
	// Number and Unit say where the Reader noticed it, as in a BadRow.
	Number int
	Unit   string
	// Is says what the input seems to be, such as "CSV". It is empty if the input has the right format, and something else is wrong.
	Is string
	// Reason says what is wrong and what to do, for people. It may quote a short piece of the input.
	Reason string
}

// Error names the line and what to do.
func (n *NotRows) Error() string { return fmt.Sprintf("%s %d: %s", n.Unit, n.Number, n.Reason) }

// quoted returns a text in quotation marks for a message, cut after 40 bytes. Characters that a terminal would obey are escaped.
func quoted[T string | []byte](text T) string {
	if len(text) > 40 {
		return fmt.Sprintf("%.40q…", text)
	}
	return fmt.Sprintf("%q", text)
}
