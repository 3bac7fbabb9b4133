import Anthropic from '@anthropic-ai/sdk';

export * from '@anthropic-ai/sdk';
export { Anthropic, Anthropic as default };

// The class adds one property to the SDK's own, whose types it has as they stand, `Anthropic.Message` included.
declare module '@anthropic-ai/sdk/client' {
  interface Anthropic {
    /** Message Batches: the same as `messages.batches`. Only clients of `@carpool/anthropic` have it. */
    readonly batches: Anthropic.Messages.Batches;
  }
}
