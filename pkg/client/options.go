package client

import (
	"context"
	"crypto/tls"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// maxAnswerBytes is the limit for the size of one answer that the client takes, in bytes. The client tells it to coordinators. It is
// higher than the default limits that coordinators have for an answer. A coordinator leaves out an output with which the answer would be
// larger, and says so in the answer.
const maxAnswerBytes = 256 << 20

// maxAnswerOption is the gRPC call option that sets maxAnswerBytes as the limit for a received message. It overrides a limit among
// WithDialOptions, because coordinators would not know of that one.
var maxAnswerOption = grpc.MaxCallRecvMsgSize(maxAnswerBytes)

// Option is an option of Dial.
type Option func(*options)

// options are the settings of a Client. Each Option writes one or two of them.
type options struct {
	logger     hclog.Logger
	transport  transport.Config
	dial       []grpc.DialOption // from WithTLS and WithDialOptions
	retryFor   time.Duration
	firstDelay time.Duration // the pause before the second try
	maxDelay   time.Duration // the limit to which the pauses grow
	open       time.Duration // the timeout of one try to open a stream
	resubmit   time.Duration // for how long after it was first sent a batch may be submitted again
	tracer     Tracer        // nil means no spans
	wrong      error         // the error of the first option that was wrong; nil means none
}

// maxDuration is the limit for durations in options, because sums with very long ones would overflow. A longer duration is an error of
// Dial; a longer Timeout of a batch counts as no timeout.
const maxDuration = 365 * 24 * time.Hour

// checkDurations makes Dial fail, by setting wrong, if one of the durations that an option was given is over maxDuration. option is the
// option's name, for the message. Negative durations are no error: the options round them up.
func (o *options) checkDurations(option string, durations ...time.Duration) {
	for _, d := range durations {
		if d > maxDuration && o.wrong == nil {
			o.wrong = batch.Errorf(batch.CodeBadMessage, "%s: %s is over the limit of %s: give less", option, d, maxDuration)
		}
	}
}

// missing makes Dial fail, by setting wrong, because an option was given nil. option is the option's name and argument says what is nil,
// for the message.
func (o *options) missing(option, argument string) {
	if o.wrong == nil {
		o.wrong = batch.Errorf(batch.CodeBadMessage, "%s: the %s is nil: give one, or leave the option out", option, argument)
	}
}

// defaults returns the settings of a Client for which Dial gets no option.
func defaults() options {
	return options{
		logger:     hclog.NewNullLogger(),
		retryFor:   30 * time.Second,
		firstDelay: 50 * time.Millisecond,
		maxDelay:   2 * time.Second,
		open:       5 * time.Second,
		resubmit:   time.Hour,
	}
}

// WithLogger sets the logger for messages about coordinators: a stream lost one, found one, or moves to one. The client logs nothing for
// each batch, and never logs rows. Default: no messages.
func WithLogger(l hclog.Logger) Option {
	return func(o *options) {
		if l == nil {
			o.missing("WithLogger", "logger")
			return
		}
		o.logger = l
	}
}

// WithTLSFiles makes the client speak TLS. ca is the PEM file of the authority that signed the coordinators' certificates. cert and key
// are the PEM files of the client's own certificate; if both are empty, the client has none. Files that change are read again. Default:
// no TLS.
func WithTLSFiles(ca, cert, key string) Option {
	return func(o *options) { o.transport.TLSCA, o.transport.TLSCert, o.transport.TLSKey = ca, cert, key }
}

// WithTLSServerName sets the name that the coordinators' certificates must have. Default: the host that the client dials.
func WithTLSServerName(name string) Option {
	return func(o *options) { o.transport.TLSServerName = name }
}

// WithTLS makes the client speak TLS with the configuration c. WithTLSFiles and WithTLSServerName then change nothing; a file of theirs
// that can't be read is still an error of Dial.
func WithTLS(c *tls.Config) Option {
	return func(o *options) {
		if c == nil {
			o.missing("WithTLS", "configuration")
			return
		}
		o.dial = append(o.dial, grpc.WithTransportCredentials(transport.ProbeSilence(credentials.NewTLS(c))))
	}
}

// TokenSource returns the token that a call carries. It is called for each call and each stream that is opened, by several goroutines at the
// same time. Its context ends with the call.
type TokenSource func(context.Context) (string, error)

// TokenFile returns a source whose token stands in a file. The file is read again when it changes.
func TokenFile(path string) TokenSource { return TokenSource(transport.TokenFile(path)) }

// WithTokenSource makes each call carry a token, by which coordinators with an access file know the program. A token goes only over TLS, or to
// a coordinator on this machine; other calls fail with CodeUnauthenticated. Default: no token.
func WithTokenSource(source TokenSource) Option {
	return func(o *options) {
		if source == nil {
			o.missing("WithTokenSource", "source")
			return
		}
		o.transport.Token = transport.TokenSource(source)
	}
}

// WithTokenPlaintext allows tokens over connections without TLS to other machines, for networks that encrypt by themselves. Default: such
// calls fail.
func WithTokenPlaintext() Option { return func(o *options) { o.transport.TokenPlaintext = true } }

// WithDialOptions passes options to gRPC for which this package has none, such as interceptors or a dialer. They take precedence over the
// options that the client sets itself, except over its limit for the size of an answer.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) {
		if slices.Contains(dial, nil) {
			o.missing("WithDialOptions", "option")
			return
		}
		o.dial = append(o.dial, dial...)
	}
}

// WithRetryFor sets for how long Submit tries again after its first failed try, and for how long the unanswered batches of a stream wait
// for a coordinator before they end with an error, which matches ErrUnanswered if they were sent. Default 30 s. With zero, Submit tries
// once, and the unanswered batches of a stream end when its connection breaks.
func WithRetryFor(d time.Duration) Option {
	return func(o *options) {
		o.checkDurations("WithRetryFor", d)
		o.retryFor = max(0, d)
	}
}

// WithRetryDelay sets the delay before the second try, and the most to which it grows: it doubles with each further try. Each delay is
// drawn at random from half to one and a half of that value. Default 50 ms and 2 s. Less than 1 ms counts as 1 ms.
func WithRetryDelay(first, most time.Duration) Option {
	return func(o *options) {
		o.checkDurations("WithRetryDelay", first, most)
		o.firstDelay, o.maxDelay = max(time.Millisecond, first), max(time.Millisecond, first, most)
	}
}

// WithOpenTimeout is the timeout for one try to connect to a coordinator and open a stream there. Default 5 s.
func WithOpenTimeout(d time.Duration) Option {
	return func(o *options) {
		o.checkDurations("WithOpenTimeout", d)
		o.open = max(time.Millisecond, d)
	}
}

// WithResubmitWithin sets how long the client remembers a batch that is unanswered or has failed rows, counted from when it was
// first sent. Submitting the batch again after that is an error, and also after 65,536 newer batches of its stream. Default 1 h.
func WithResubmitWithin(d time.Duration) Option {
	return func(o *options) {
		o.checkDurations("WithResubmitWithin", d)
		o.resubmit = max(0, d)
	}
}

// WithTracer makes a span of each batch with t. For OpenTelemetry use the option of package pkg/client/oteltrace instead, which calls
// this one. Default, also with a nil Tracer: no spans, and no cost.
func WithTracer(t Tracer) Option {
	return func(o *options) { o.tracer = t }
}

// SubmitOption is an option of one call of Submit or Send.
type SubmitOption func(*submitOptions)

// submitOptions are the options of one batch.
type submitOptions struct {
	noOutput   bool
	reportOnly bool
	timeout    time.Duration // zero means none
	origin     *pb.Origin    // nil means that the program does not say
}

// NoOutput says that the result needs no output: the rows that the flow's last function passes on are then not sent back. Default: the
// result has them.
func NoOutput() SubmitOption { return func(o *submitOptions) { o.noOutput = true } }

// ReportOnly says that dead rows are only reported in the result. Default: they are also kept as dead letters, if the cluster has a store
// for them. RowOutcome.Kept says whether a row was kept, and NotKept why not.
func ReportOnly() SubmitOption { return func(o *submitOptions) { o.reportOnly = true } }

// From says where the rows of the batch come from, so that dead letters and their readers can name it: source is the name of a file or of
// another source, of which the first 1,024 bytes count, and lines has the line in it of each row, counted from 1. Either may be empty. Rows
// behind the first 100 runs of consecutive lines have no line. Default: nothing is said.
func From(source string, lines []int) SubmitOption {
	return func(o *submitOptions) { o.origin = wire.Origin(source, lines) }
}

// Timeout sets the batch's deadline to d after the call of Submit or Send. Rows without an outcome by then come back failed with
// CodeDeadline. A batch that could not be sent by then, or must be sent again after a connection broke, ends with an error of that code,
// and its rows do not run later. The deadline of Submit's or the stream's context counts too, if it is earlier. Less than 1 ms counts as
// 1 ms, and more than a year as no timeout. Default: none.
func Timeout(d time.Duration) SubmitOption {
	return func(o *submitOptions) {
		if o.timeout = max(time.Millisecond, d); d > maxDuration {
			o.timeout = 0
		}
	}
}
