export const RELEASE = "first";
