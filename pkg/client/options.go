package client

import (
	"crypto/tls"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// takesBytes is how many bytes of one answer the client takes, and tells coordinators that it does: more than any of theirs by
// default. They leave out, and say so, what would be more.
const takesBytes = 256 << 20

// takesMost has gRPC take that much too. A limit among WithDialOptions does not change it: coordinators would not know.
var takesMost = grpc.MaxCallRecvMsgSize(takesBytes)

// Option changes how a Client is dialled.
type Option func(*options)

type options struct {
	logger     hclog.Logger
	transport  transport.Config
	dial       []grpc.DialOption
	retryFor   time.Duration
	firstDelay time.Duration
	maxDelay   time.Duration
	open       time.Duration
	resubmit   time.Duration
	tracer     Tracer // nil: nobody traces
	wrong      error  // of the first option that can't be; nil: none
}

// longest bounds the delays of options: a longer one is a mistake, and sums of such would overflow.
const longest = 365 * 24 * time.Hour

// within notes an option whose delay can't be. Negative ones count as the least.
func (o *options) within(option string, delays ...time.Duration) {
	for _, d := range delays {
		if d > longest && o.wrong == nil {
			o.wrong = batch.Errorf(batch.CodeBadMessage, "%s: %s is over the limit of %s: give less", option, d, longest)
		}
	}
}

// missing notes an option whose argument is nil.
func (o *options) missing(option, what string) {
	if o.wrong == nil {
		o.wrong = batch.Errorf(batch.CodeBadMessage, "%s: the %s is nil: give one, or leave the option out", option, what)
	}
}

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

// WithLogger has the client tell when it loses and finds coordinators. Default: silence. Never per batch, never rows.
func WithLogger(l hclog.Logger) Option {
	return func(o *options) {
		if l == nil {
			o.missing("WithLogger", "logger")
			return
		}
		o.logger = l
	}
}

// WithTLSFiles has the client speak TLS: ca names the PEM file of the authority that signed the coordinators' certificates,
// cert and key those of the client's own certificate, both empty for none. Files that change are read again. Default: no TLS.
func WithTLSFiles(ca, cert, key string) Option {
	return func(o *options) { o.transport.TLSCA, o.transport.TLSCert, o.transport.TLSKey = ca, cert, key }
}

// WithTLSServerName sets the name that the coordinators' certificates must have. Default: the host that is dialled.
func WithTLSServerName(name string) Option {
	return func(o *options) { o.transport.TLSServerName = name }
}

// WithTLS has the client speak TLS as c says. It wins over the options above.
func WithTLS(c *tls.Config) Option {
	return func(o *options) {
		if c == nil {
			o.missing("WithTLS", "configuration")
			return
		}
		o.dial = append(o.dial, grpc.WithTransportCredentials(transport.ProbeSilence(credentials.NewTLS(c))))
	}
}

// WithDialOptions hands options to gRPC, for what this package has no option for: interceptors, a dialer of one's own. They
// win over the client's.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) {
		if slices.Contains(dial, nil) {
			o.missing("WithDialOptions", "option")
			return
		}
		o.dial = append(o.dial, dial...)
	}
}

// WithRetryFor bounds how long Submit goes on trying after its first failed try, and how long a stream's unanswered batches
// wait for a coordinator to come back before they end with ErrUnanswered. Default 30 s. Zero: Submit tries once, and a
// stream's batches end when its connection does.
func WithRetryFor(d time.Duration) Option {
	return func(o *options) {
		o.within("WithRetryFor", d)
		o.retryFor = max(0, d)
	}
}

// WithRetryDelay sets how long to wait before the second try, and the bound up to which that doubles with each further one.
// Each delay is drawn at random from half to one and a half of that. Default 50 ms and 2 s.
func WithRetryDelay(first, most time.Duration) Option {
	return func(o *options) {
		o.within("WithRetryDelay", first, most)
		o.firstDelay, o.maxDelay = max(time.Millisecond, first), max(time.Millisecond, first, most)
	}
}

// WithOpenTimeout bounds one try to connect and open a stream. Default 5 s.
func WithOpenTimeout(d time.Duration) Option {
	return func(o *options) {
		o.within("WithOpenTimeout", d)
		o.open = max(time.Millisecond, d)
	}
}

// WithResubmitWithin says how old a batch that is unanswered, or has failed rows, may become before the client forgets it:
// submitting it again is an error from then on, and also once 65,536 newer batches were sent. Default 1 h.
func WithResubmitWithin(d time.Duration) Option {
	return func(o *options) {
		o.within("WithResubmitWithin", d)
		o.resubmit = max(0, d)
	}
}

// WithTracer makes a span of each batch with t. For OpenTelemetry use the option of package pkg/client/oteltrace instead, which calls
// this one. Default, also with a nil Tracer: no spans, and no cost.
func WithTracer(t Tracer) Option {
	return func(o *options) { o.tracer = t }
}

// SubmitOption changes one Submit or Send.
type SubmitOption func(*submitOptions)

type submitOptions struct {
	noOutput   bool
	reportOnly bool
	timeout    time.Duration
}

// NoOutput saves sending back what the flow's last function passes on. Default: the result has it.
func NoOutput() SubmitOption { return func(o *submitOptions) { o.noOutput = true } }

// ReportOnly has dead rows only reported in the result. Default: they are kept as dead letters too, where the cluster has
// a store for them. RowOutcome.Kept says whether they are, NotKept why not.
func ReportOnly() SubmitOption { return func(o *submitOptions) { o.reportOnly = true } }

// Timeout ends the batch's rows that have no outcome after d: the cluster gives them back failed with CodeDeadline. The end is a
// moment: a batch that has not been sent by then, or must be sent again, as a connection broke, ends with an error of that code,
// and its rows do not run later. The least is a millisecond, a year counts as none. Default none, apart from the deadline of
// Submit's or the stream's context, which counts too when it is earlier.
func Timeout(d time.Duration) SubmitOption {
	return func(o *submitOptions) {
		if o.timeout = max(time.Millisecond, d); d > longest {
			o.timeout = 0
		}
	}
}
