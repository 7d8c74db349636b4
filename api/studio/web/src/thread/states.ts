/** A state as the API has it. */
export type State = any;

export const checkpointOf = (state: State): string => state?.checkpoint?.checkpoint_id ?? state?.checkpoint_id ?? "";
export const parentOf = (state: State): string => state?.parent_checkpoint?.checkpoint_id ?? state?.parent_config?.configurable?.checkpoint_id ?? "";
